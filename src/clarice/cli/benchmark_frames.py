"""`clarice benchmark frames`: real particles of one frame, denoised, beside the mean of all other frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.real_frames import METHODS, NAME, FramesRequest, frames
from clarice.benchmark.records import Row
from clarice.cli.benchmark_options import (
    OutOption,
    ResumeOption,
    ThreadsOption,
    TimeoutOption,
    WorkOption,
    denoisers_named,
    insist_on_limits,
    make_folders,
)
from clarice.cli.benchmark_results import tell
from clarice.cli.console import console
from clarice.cli.seed_option import seed_option
from clarice.core.errors import UsageError

_O = typer.Option


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command(NAME)(benchmark_frames)


def benchmark_frames(
    methods: Annotated[str, _O("--methods", help="Denoisers, a list.")] = ",".join(METHODS),
    images: Annotated[
        int, _O("--images", min=0, help="Particles to fine-tune each network on, counted each time; 0: none is tuned.")
    ] = 0,
    seed: Annotated[int, seed_option("Seed of fine-tuning.")] = 0,
    data: Annotated[
        Path | None, _O("--data", envvar="CLARICE_DATA", help="Folder with micrographs/apoferritin.")
    ] = None,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
    timeout: TimeoutOption = 240.0,
) -> None:
    """Denoise particles of one frame of real micrographs, and hold them against the mean of all other frames.

    With --resume fine-tuning goes on where an earlier call with the same --work stopped.
    """
    insist_on_limits(threads, timeout)
    if data is None:
        raise UsageError("there are no real micrographs without --data: name the folder with micrographs/apoferritin")
    request = FramesRequest(
        data.resolve(),
        out.resolve(),
        work.resolve(),
        denoisers_named(methods, METHODS),
        images,
        seed=seed,
        threads=threads,
        resume=resume,
        timeout_seconds=60 * timeout,
    )
    make_folders(out, work)
    tell(frames(request, shown=tell_row), out)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    if "explained" in row:
        said = f"explains {row['explained']:.1%} ± {row['explained_error']:.1%} of what clean images would"
    else:
        said = str(row.get("note"))
    console.print(f"{row['entry']}, {row['method']} {row['weights'] or ''}: {said}", markup=False)
