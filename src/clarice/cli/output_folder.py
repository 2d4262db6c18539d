"""Where a command writes its files, tried before any work is done for a place that refuses them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from clarice.cli.console import told
from clarice.core.errors import OutputError, UsageError
from clarice.core.particles import ParticleSet
from clarice.io.atomic import why_refused
from clarice.io.stack import files_behind
from clarice.pipeline.run_record import RECORD_NAME, read_record

TABLE_SUFFIXES = (".star", ".cs")


def make_folder(output: Path) -> None:
    """Makes the output folder a command was asked for. Raises OutputError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {why_refused(error)}") from error
    if not os.access(output, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {output}: permission denied")


def insist_on_place(output: Path) -> None:
    """Raises OutputError where the folder `output` could not be made, without making it."""
    there = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".tried-"):
            pass
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {why_refused(error)}") from error


def keep_apart(output: Path, names: Sequence[str], inputs: Iterable[Path | None]) -> None:
    """Raises UsageError where files of these `names` in `output` would replace one of `inputs`, or a run's own."""
    if os.path.exists(output / RECORD_NAME):
        raise UsageError(
            f"--output {output} is the folder of a run, whose files would be overwritten: name another one"
        )
    for given in inputs:
        if any(_is_one_file(output / name, given) for name in names):
            raise UsageError(
                f"--output {output} is where {given} is read from, which would be overwritten: name another folder"
            )


def keep_files_apart(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Raises UsageError where a file that an option of `outputs` names is one of `inputs`."""
    for given in inputs:
        for option, output in outputs.items():
            if _is_one_file(output, given):
                raise UsageError(
                    f"{option} {output} is a file that is read, and would be overwritten: give another name"
                )


def files_read(particles: ParticleSet, stack: Path, passthrough: Sequence[Path] | None) -> list[Path]:
    """The files that `particles` of the table `stack` come from, image files among them."""
    behind = files_behind(particles.images)
    return [stack, *(passthrough or ()), *(() if behind is None else (file.path for file in behind[0].files))]


def _is_one_file(output: Path | None, given: Path | None) -> bool:
    # Not Path.exists, which raises where a folder may not be looked into: that is told when it is written to.
    return bool(
        output and given and os.path.exists(output) and os.path.exists(given) and os.path.samefile(output, given)
    )


def writable_file(path: Path | None) -> Path | None:
    """`path`, unless no file can be written there; its folder has to be there.

    Raises OutputError, and UsageError for a file that a run has made, which its next call would miss.
    """
    if path is None:
        return None
    if _is_of_a_run(path):
        raise UsageError(f"{path} is a file of the run in {path.parent}, which would be overwritten: give another name")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; add the name of a file")
    if not path.parent.exists():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tried-"):
            return path
    except OSError as error:
        raise OutputError(f"cannot write {path}: {why_refused(error)}") from error


def _is_of_a_run(path: Path) -> bool:
    try:
        record = read_record(path.parent)
    except (OutputError, OSError):  # of something else, or of another version, or out of reach: not ours to judge
        return False
    return record is not None and any(path.name in (RECORD_NAME, *stage.outputs) for stage in record.stages)


def writable_table(path: Path) -> Path:
    """`path`, unless no particle table can be written there. Raises UsageError for its ending, OutputError."""
    if path.suffix not in TABLE_SUFFIXES:
        raise UsageError(
            f"--output {path} must end in {' or '.join(TABLE_SUFFIXES)}: the ending says which table it is"
        )
    writable_file(path)
    return path


def said_written(what: str, path: Path) -> None:
    """Tells where a file beside the main output lies."""
    told(f"{what}: {path}")


_O = typer.Option
JsonOption = Annotated[
    Path | None,
    _O("--json", callback=writable_file, help="Write everything found to this JSON file, in a folder that is there."),
]
