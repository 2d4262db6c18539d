"""Options that every protocol has, and what is made of them before any work."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.structures import words
from clarice.cli.console import console
from clarice.cli.output_folder import make_folder
from clarice.core.errors import UsageError
from clarice.denoise.registry import get_denoiser

_O = typer.Option
BoxOption = Annotated[int, _O("--box", help="Box, pixels.")]
DataOption = Annotated[
    Path | None,
    _O("--data", envvar="CLARICE_DATA", help="Folder with structures/ and formats/; procedural molecules if absent."),
]
MoleculesOption = Annotated[bool, _O("--molecules", help="Run on procedural molecules, whatever --data says.")]

OutOption = Annotated[Path, _O("--out", help="Folder for the results: JSON, Markdown, and pictures if there are any.")]
WorkOption = Annotated[Path, _O("--work", help="Folder for what is made on the way; it may be removed afterwards.")]
ResumeOption = Annotated[bool, _O("--resume", help="Keep the finished rows of an earlier call in --out.")]
ThreadsOption = Annotated[int, _O("--threads", help="Threads of everything measured.")]
TimeoutOption = Annotated[float, _O("--timeout", help="Minutes after which a program is ended.")]


def insist_on_limits(threads: int, timeout_minutes: float) -> None:
    """Raises UsageError for fewer threads than one, or no time at all."""
    if threads < 1:
        raise UsageError(f"--threads {threads} must be at least 1")
    if not timeout_minutes > 0:
        raise UsageError(f"--timeout {timeout_minutes:g} must be above 0 minutes")


def denoisers_named(text: str, usual: Sequence[str]) -> tuple[str, ...]:
    """The denoisers of a list separated by commas or blanks. Raises UsageError for none, or one there is not."""
    named = tuple(words(text))
    if not named:
        raise UsageError(f"--methods names no denoiser: write them as in --methods {','.join(usual)}")
    for name in named:
        get_denoiser(name)
    return named


def some_of(text: str, option: str, known: Collection[str]) -> list[str]:
    """The words of a list, which are some of those `known`. Raises UsageError for none, or one there is not."""
    chosen = words(text)
    if not chosen or any(word not in known for word in chosen):
        raise UsageError(f"{option} {text!r} is not known: use some of {', '.join(known)}")
    return chosen


def make_folders(out: Path, work: Path) -> None:
    """Makes the folders of results and of work. Raises OutputError."""
    for path in (out, work):
        make_folder(path)


def tell_procedural() -> None:
    """Says that no real structures are in use."""
    console.print("no folder of structures in use: this table is about procedural molecules", markup=False)
