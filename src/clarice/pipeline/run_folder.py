"""The run folder: everything a run makes, enough alone to resume it, to reproduce it and to audit it."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clarice.core.errors import ClariceError, OutputError
from clarice.io.atomic import TEMPORARY_NAME, why_refused
from clarice.pipeline.fingerprint import fingerprint_file
from clarice.pipeline.lock import locked
from clarice.pipeline.resources import hardware
from clarice.pipeline.run_record import RECORD_NAME, RunRecord, StageRecord, read_record

LOG_NAME = "clarice.log"
WORK_NAME = ".work"
LOGGED = ("clarice", "py.warnings")

logger = logging.getLogger(__name__)


def nobody(message: str) -> None:
    """Hears nothing."""


@dataclass
class RunFolder:
    """A run's folder and record, held by this process alone. Made by `open_run`."""

    folder: Path
    record: RunRecord
    tell: Callable[[str], None] = nobody
    _fingerprints: dict[str, str | None] = field(default_factory=dict, repr=False)

    def path(self, name: str) -> Path:
        """Where the file `name` stands, or will."""
        return self.folder / name

    def say(self, message: str) -> None:
        """Writes `message` to the log and to whoever watches."""
        logger.info(message)
        self.tell(message)

    @property
    def warnings(self) -> list[dict[str, str]]:
        """What the stages warned of: dicts of `stage` and `message`."""
        return self.record.warnings

    def warn(self, stage: str, message: str) -> None:
        """Records a warning about `stage`, which the report shows first."""
        self.record.warnings.append({"stage": stage, "message": message})
        self.save()
        logger.warning("%s: %s", stage, message)
        self.tell(f"warning: {message}")

    def describe_input(self, **facts: Any) -> None:
        """Records what came in: path, sha256, particles, box, pixel_size_angstrom."""
        self.record.input = facts
        self.save()

    def save(self) -> None:
        """Writes `run.json` anew."""
        self.record.save(self.folder)

    def fingerprint(self, name: str) -> str | None:
        """Fingerprint of the file `name` as it stands, None where there is none."""
        if name not in self._fingerprints:
            path = self.path(name)
            self._fingerprints[name] = fingerprint_file(path) if path.is_file() else None
        return self._fingerprints[name]

    def remove(self, names: tuple[str, ...] | list[str]) -> None:
        """Removes files of the run that no longer hold."""
        for name in names:
            self.path(name).unlink(missing_ok=True)
            self._fingerprints.pop(name, None)

    def written(self, names: tuple[str, ...]) -> None:
        """Tells that `names` have just been written."""
        for name in names:
            self._fingerprints.pop(name, None)

    def intact(self, entry: StageRecord) -> bool:
        """Whether every output of a recorded stage is there with the content it was recorded with."""
        return all(self.fingerprint(name) == hash_ for name, hash_ in entry.output_hashes.items())

    def working_folder(self, stage: str) -> Path:
        """Where `stage` keeps its checkpoints until it is done."""
        return self.folder / WORK_NAME / stage

    def discard_working_folder(self, stage: str) -> None:
        """Removes the checkpoints of `stage`."""
        shutil.rmtree(self.working_folder(stage), ignore_errors=True)
        parent = self.folder / WORK_NAME
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


@contextmanager
def open_run(
    folder: Path | str,
    *,
    command: str,
    arguments: Mapping[str, Any],
    seed: int | None = None,
    tell: Callable[[str], None] = nobody,
) -> Iterator[RunFolder]:
    """Opens `folder` for a new run, or for going on with the one that is there.

    Holds the folder's lock, writes `run.json`, appends to `clarice.log`, and clears away what a killed run
    left. `arguments` go into the record as they are (JSON types, paths as text). Raises OutputError when the
    folder cannot be written, is in use by another run, or holds files that are not a run's.
    """
    path = Path(folder)
    _prepare(path)
    with locked(path):
        older = read_record(path)
        record = RunRecord(command=command, arguments=dict(arguments), seed=seed, hardware=hardware())
        if older is not None:
            record.created, record.input = older.created, older.input
            record.stages, record.warnings = older.stages, older.warnings
        remove_leftovers(path)
        run = RunFolder(path, record, tell)
        run.save()
        with _logging_to(path / LOG_NAME):
            logger.info("%s: clarice %s, %s", "resumed" if older else "started", record.version, command)
            with _telling_the_end():
                yield run


def _prepare(folder: Path) -> None:
    """Makes the folder, unless it is there, and refuses one that is not ours to fill."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = set(os.listdir(folder))
    except OSError as error:
        raise OutputError(f"cannot make the run folder {folder}: {why_refused(error)}") from error
    visible = {name for name in names if not name.startswith(".")}
    if RECORD_NAME not in names and visible - {LOG_NAME}:
        raise OutputError(f"{folder} holds files that are not a run's: choose a new or empty folder")


def remove_leftovers(folder: Path, names: Sequence[str] | None = None) -> None:
    """Removes the temporary files that a killed process has left in a folder whose lock is held: all, or those that
    were to become files of these `names`.
    """
    stems = None if names is None else {Path(name).stem for name in names}
    for path in folder.iterdir():
        found = TEMPORARY_NAME.fullmatch(path.name)
        if found and (stems is None or found[1] in stems):
            path.unlink()


class _LogFile(logging.FileHandler):
    """A log that cannot be written, on a full disk, does not add to the trouble."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the library's name
        """Says nothing: the work itself will say what is wrong."""


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Appends the package's log and Python's warnings to `path`, times in UTC."""
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): remove it or free the disk") from error
    handler.setLevel(logging.INFO)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    before = {name: logging.getLogger(name).level for name in LOGGED}
    for name in LOGGED:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(level)
        with suppress(OSError):
            handler.close()


@contextmanager
def _telling_the_end() -> Iterator[None]:
    try:
        yield
    except ClariceError as error:
        logger.error("stopped: %s", error)
        raise
    except KeyboardInterrupt:
        logger.error("interrupted")
        raise
    except Exception:
        logger.exception("stopped by an error in the program")
        raise
    logger.info("ended")
