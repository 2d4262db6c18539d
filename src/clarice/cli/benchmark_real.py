"""`clarice benchmark real` and `frames`: networks on real particles as shipped and fine-tuned, denoisers on a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark import real_frames, real_particles
from clarice.benchmark.real_frames import KEYS, FramesRequest, frames
from clarice.benchmark.real_particles import RealRequest, real
from clarice.benchmark.records import Row
from clarice.benchmark.structures import words
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
from clarice.cli.console import told
from clarice.cli.seed_option import seed_option
from clarice.core.errors import UsageError
from clarice.denoise.trained import trained_network

_O = typer.Option


def register(protocols: typer.Typer) -> None:
    """Adds the commands to the group of protocols."""
    protocols.command(real_particles.NAME)(benchmark_real)
    protocols.command(real_frames.NAME)(benchmark_frames)


def benchmark_real(
    methods: Annotated[str, _O("--methods", help="Networks that denoise and have weights, a list.")] = ",".join(
        real_particles.METHODS
    ),
    images: Annotated[
        int | None, _O("--images", min=1, help="Particles to tune on, counted each time; as finetune has it if absent.")
    ] = None,
    seed: Annotated[int, seed_option("Seed of fine-tuning and of the runs.")] = 0,
    data: Annotated[
        Path | None, _O("--data", envvar="CLARICE_DATA", help="Folder with structures/ and particles/apoferritin.")
    ] = None,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
    timeout: TimeoutOption = 240.0,
) -> None:
    """Run networks on real particles of apoferritin, as shipped and fine-tuned, and compare the map with the structure.

    With --resume fine-tuning goes on where an earlier call with the same --work stopped.
    """
    insist_on_limits(threads, timeout)
    if data is None:
        raise UsageError("there are no real particles without --data: name the folder with particles/apoferritin")
    named = words(methods)
    if not named:
        raise UsageError(f"--methods names no network: write them as in --methods {','.join(real_particles.METHODS)}")
    for name in named:
        trained_network(name)  # raises where there are no weights of it
    request = RealRequest(
        data=data.resolve(),
        out=out.resolve(),
        work=work.resolve(),
        methods=named,
        images=images,
        seed=seed,
        threads=threads,
        resume=resume,
        timeout_seconds=60 * timeout,
        tell=told,
    )
    make_folders(out, work)
    tell(real(request, shown=tell_row), out)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    if row.get("failed"):
        said = str(row.get("note"))
    elif "mean_fsc" in row:
        said = f"mean FSC {row['mean_fsc']:.2f}, {row['verdict']}"
    else:
        said = (
            f"held-out error less that of zeros {row['over_zeros']:+.4f}, FRC of disjoint sources "
            f"{row['disjoint_frc']:.2f}, {row.get('verdict', 'not kept')}"
        )
    told(f"{row['entry']}, {row['method']} {row['weights']}: {said}")


def benchmark_frames(
    methods: Annotated[str, _O("--methods", help="Denoisers, a list.")] = ",".join(real_frames.METHODS),
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
        data=data.resolve(),
        out=out.resolve(),
        work=work.resolve(),
        methods=denoisers_named(methods, real_frames.METHODS),
        images=images,
        seed=seed,
        threads=threads,
        resume=resume,
        timeout_seconds=60 * timeout,
        tell=told,
    )
    make_folders(out, work)
    tell(frames(request, shown=tell_frames_row), out)


def tell_frames_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    if "explained" in row:
        said = f"explains {row['explained']:.1%} ± {row['explained_error']:.1%} of what clean images would"
    else:
        said = str(row.get("note"))
    named = ", ".join(str(row[key]) for key in KEYS if row[key] is not None)
    told(f"{named}: {said}")
