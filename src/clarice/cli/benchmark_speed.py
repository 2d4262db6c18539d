"""`clarice benchmark speed`: which stacks and methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.protocol import StackSettings
from clarice.benchmark.records import Row
from clarice.benchmark.speed import CLASSES, COUNTS, METHODS, SpeedRequest, speed
from clarice.benchmark.structures import default_entries, load_subject, structures_folder, words
from clarice.cli.benchmark_denoise import numbers
from clarice.cli.benchmark_options import (
    BoxOption,
    DataOption,
    MoleculesOption,
    OutOption,
    ResumeOption,
    ThreadsOption,
    TimeoutOption,
    WorkOption,
    denoisers_named,
    insist_on_limits,
    make_folders,
    tell_procedural,
)
from clarice.cli.benchmark_results import tell
from clarice.cli.console import console, showing_progress
from clarice.cli.seed_option import seed_option

_O = typer.Option
ParticlesOption = Annotated[str, _O("--particles", help="Particles a stack, a list.")]
MethodsOption = Annotated[str, _O("--methods", help="Denoisers, and `classify`: each is run on every stack.")]
ProcessesOption = Annotated[
    int, _O("--processes", min=1, help="Above 1: once more by so many processes, killed halfway and started again.")
]
EntryOption = Annotated[
    str | None, _O("--entry", help="Structure, as in 1qvr or molecule-101; the first acceptance structure if absent.")
]
SnrOption = Annotated[float, _O("--snr", help="Signal-to-noise ratio.")]
SeedOption = Annotated[int, seed_option("Seed of the stacks.")]


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command("speed")(benchmark_speed)


def benchmark_speed(
    particles: ParticlesOption = ",".join(map(str, COUNTS)),
    methods: MethodsOption = ",".join(METHODS),
    entry: EntryOption = None,
    snr: SnrOption = 0.1,
    seed: SeedOption = 1,
    box: BoxOption = 64,
    data: DataOption = None,
    molecules: MoleculesOption = False,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
    processes: ProcessesOption = 1,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Denoise and classify stacks of one structure as they grow, and tell time and memory."""
    insist_on_limits(threads, timeout)
    data = None if molecules else data
    folder = structures_folder(data)
    chosen = (default_entries(folder)[0] if entry is None else entry).strip().lower()
    load_subject(chosen, folder)
    named = tuple(words(methods))
    if named != (CLASSES,):
        denoisers_named(" ".join(name for name in named if name != CLASSES), METHODS)
    settings = StackSettings(box=box, snr=snr)
    settings.simulation(1, None)
    request = SpeedRequest(
        chosen,
        numbers(particles, "--particles", int),
        named,
        settings,
        out.resolve(),
        work.resolve(),
        data,
        seed=seed,
        threads=threads,
        processes=processes,
        resume=resume,
        timeout_seconds=60 * timeout,
    )
    make_folders(out, work)
    if data is None:
        tell_procedural()
    with showing_progress() as progress:
        results = speed(request, shown=tell_row, progress=progress)
    tell(results, out)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    if row.get("failed"):
        said = str(row.get("note"))
    elif row["processes"] > 1:
        said = f"{row['seconds']:.1f} s by {row['processes']} processes, same files: {row['same_files']}"
    else:
        said = f"{row['seconds']:.1f} s, {row['peak_memory_mb']:.0f} MB"
    console.print(f"{row['particles']:,} particles, {row['method']}: {said}", markup=False)
