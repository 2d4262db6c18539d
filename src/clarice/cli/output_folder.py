"""Where a command writes its files, tried before any work is done for a place that refuses them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from clarice.cli.console import console
from clarice.core.errors import OutputError, UsageError
from clarice.io.atomic import why_refused

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


def writable_file(path: Path | None) -> Path | None:
    """`path`, unless no file can be written there; its folder has to be there. Raises OutputError."""
    if path is None:
        return None
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; add the name of a file")
    if not path.parent.exists():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tried-"):
            return path
    except OSError as error:
        raise OutputError(f"cannot write {path}: {why_refused(error)}") from error


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
    console.print(f"{what}: {path}", markup=False)


_O = typer.Option
JsonOption = Annotated[
    Path | None,
    _O("--json", callback=writable_file, help="Write everything found to this JSON file, in a folder that is there."),
]
