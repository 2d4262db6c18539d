"""Results of work on parts of a stack, kept in a folder: an interrupted job finds them, and processes share them out.

What is done with the parts never depends on who did them: parts are the same for one process and for many, and results
are taken up in the order of the parts. So an interrupted job, and one of several processes, ends with the very numbers
of a single one.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from clarice.core.errors import OutputError
from clarice.core.parallel import ordered_map
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.io.atomic import TEMPORARY_NAME, writing

# By name, all about the same rows or sums over them.
Arrays = Mapping[str, NDArray[Any]]
_JOB = "job.txt"
# Key of the digest of the rows that a result is about.
_ROWS = "rows"


def _alone() -> None:
    """What a single process waits for."""


@dataclass
class Keeping:
    """Where results are kept, and which process of how many this is.

    `meet` returns once every process has called it. Every process maps the same functions over the same parts in the
    same order: that is how each map knows its results from those of others.
    """

    folder: Path
    rank: int = 0
    world: int = 1
    meet: Callable[[], None] = _alone
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that takes up the results and writes the outputs."""
        return self.rank == 0

    def begin(self, job: str) -> None:
        """Removes what another job than the one `job` describes has left, and what was half-written.

        Raises OutputError.
        """
        if self.first:
            told = self.folder / _JOB
            if self.folder.exists() and (not told.exists() or told.read_text(encoding="utf-8") != job):
                self.discard()
                if self.holds_results:
                    raise OutputError(f"{self.folder}, left by another job, cannot be removed: remove it by hand")
            for path in self.folder.rglob(".*"):
                if TEMPORARY_NAME.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            with writing(told) as temporary:
                temporary.write_text(job, encoding="utf-8")
        self.meet()

    @property
    def holds_results(self) -> bool:
        """Whether there is anything that a later call could use."""
        return self.folder.is_dir() and any(path.name != _JOB for path in self.folder.iterdir())

    @property
    def holds_maps(self) -> bool:
        """Whether there are results of `map_parts`."""
        return self.folder.is_dir() and any(path.is_dir() for path in self.folder.iterdir())

    def discard(self) -> None:
        """Removes all that is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def place(self, label: str) -> Path:
        """The folder of the next map."""
        return self.folder / f"{next(self._numbers):04d}-{label.replace(' ', '-')}"


_keeping: ContextVar[Keeping | None] = ContextVar("where results are kept", default=None)


@contextmanager
def results_kept(keeping: Keeping | None) -> Iterator[None]:
    """What `map_parts` finds meanwhile is kept and shared out; None: it is not, though it was."""
    token = _keeping.set(keeping)
    try:
        yield
    finally:
        _keeping.reset(token)


def map_parts(
    label: str,
    work: Callable[[RowIndex], Arrays],
    parts: Sequence[RowIndex],
    progress: Progress = silent,
    *,
    at_once: bool = True,
    for_all: bool = True,
) -> Iterator[tuple[RowIndex, Arrays]]:
    """`work` of each of the `parts`, which are rows of a stack, with its rows and in their order.

    Where results are kept, those that are there are not computed again, and every process computes its share before
    the first comes out; without `for_all` they come out in the first process only, and nothing in the others.
    Parts are computed on several threads, or, without `at_once`, one after the other, where `work` has threads of its
    own. `progress` hears of this process's rows. Raises OutputError when a result cannot be kept.
    """
    keeping = _keeping.get()
    if keeping is None:
        yield from _computed(label, work, parts, progress, at_once)
        return
    place = keeping.place(label)
    mine = range(keeping.rank, len(parts), keeping.world)
    missing = [index for index in mine if not _is_whole(_path(place, index), parts[index])]
    rows = [parts[index] for index in missing]
    for index, (_, found) in zip(missing, _computed(label, work, rows, progress, at_once), strict=True):
        with writing(_path(place, index)) as temporary:
            kept = {name: np.ascontiguousarray(values) for name, values in found.items()}
            temporary.write_bytes(save(kept, metadata={_ROWS: _digest(parts[index])}))
    keeping.meet()
    if for_all or keeping.first:
        for index, part in enumerate(parts):
            yield part, _read(_path(place, index), part)


def _computed(
    label: str, work: Callable[[RowIndex], Arrays], parts: Sequence[RowIndex], progress: Progress, at_once: bool
) -> Iterator[tuple[RowIndex, Arrays]]:
    done, total = 0, sum(len(part) for part in parts)
    for part, found in zip(parts, (ordered_map if at_once else map)(work, parts), strict=True):
        done += len(part)
        progress(label, done, total)
        yield part, found


def _path(place: Path, index: int) -> Path:
    return place / f"{index:06d}.safetensors"


def _digest(rows: RowIndex) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows, dtype=np.int64).tobytes()).hexdigest()


def _is_whole(path: Path, rows: RowIndex) -> bool:
    """Whether the result is there, and about these rows."""
    try:
        with safe_open(path, framework="numpy") as file:
            return bool((file.metadata() or {}).get(_ROWS) == _digest(rows))
    except (OSError, SafetensorError):
        return False


def _read(path: Path, rows: RowIndex) -> Arrays:
    try:
        if _is_whole(path, rows):
            return load_file(path)
    except (OSError, SafetensorError):
        pass
    raise OutputError(f"{path}, kept for an unfinished job, is gone or damaged: start the command again")
