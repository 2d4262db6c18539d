"""`clarice benchmark abinitio`: which stacks, and which ways to a first map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.abinitio_contest import CTFS, SNRS, STRUCTURES, AbinitioRequest, abinitio_contest
from clarice.benchmark.abinitio_methods import NAMES_IN_WORDS, USUAL, Limits, map_methods
from clarice.benchmark.denoise_subjects import PROCEDURAL, choose_subjects
from clarice.benchmark.protocol import StackSettings
from clarice.benchmark.records import Row
from clarice.benchmark.structures import seeds_of, words
from clarice.cli.benchmark_denoise import EntriesOption, ValidationOption, numbers
from clarice.cli.benchmark_options import (
    BoxOption,
    DataOption,
    MoleculesOption,
    OutOption,
    ResumeOption,
    ThreadsOption,
    TimeoutOption,
    WorkOption,
    insist_on_limits,
    make_folders,
    some_of,
    tell_procedural,
)
from clarice.cli.benchmark_results import tell
from clarice.cli.console import console, showing_progress
from clarice.core.errors import UsageError
from clarice.pipeline.frame import DEFAULT_SHIFT_SHARE

_O = typer.Option
SeedsOption = Annotated[str, _O("--seeds", help="Seeds, one stack each.")]
SnrsOption = Annotated[str, _O("--snr", help="Signal-to-noise ratios, a list.")]
CtfOption = Annotated[str, _O("--ctf", help="CTF and shifts, of on, off.")]
ShiftOption = Annotated[float, _O("--shift-px", min=0, help="Largest shift in x and y of stacks with a CTF, pixels.")]
ParticlesOption = Annotated[int, _O("--particles", help="Particles a stack.")]
MethodsOption = Annotated[str, _O("--methods", help=f"Ways to a map, of {NAMES_IN_WORDS}.")]


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command("abinitio")(benchmark_abinitio)


def benchmark_abinitio(
    entries: EntriesOption = None,
    validation: ValidationOption = False,
    seeds: SeedsOption = "1,2",
    snr: SnrsOption = ",".join(map(str, SNRS)),
    ctf: CtfOption = "on",
    methods: MethodsOption = ",".join(USUAL),
    particles: ParticlesOption = 2000,
    shift_px: ShiftOption = StackSettings.max_shift_px,
    box: BoxOption = 64,
    data: DataOption = None,
    molecules: MoleculesOption = False,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
    timeout: TimeoutOption = 180.0,
) -> None:
    """Find first maps of simulated stacks, by common lines after each denoiser, by other ways and by peers."""
    insist_on_limits(threads, timeout)
    data = None if molecules else data
    ctfs, snrs = tuple(some_of(ctf, "--ctf", CTFS)), numbers(snr, "--snr", float)
    if shift_px >= box / 4:
        raise UsageError(f"--shift-px {shift_px:g} must be less than a quarter of --box {box}: no search goes further")
    settings = StackSettings(particles=particles, box=box, max_shift_px=shift_px)
    for ratio in snrs:
        replace(settings, snr=ratio).simulation(1, None)
    reach = shift_px if shift_px > DEFAULT_SHIFT_SHARE * box else None
    limits = Limits(work.resolve(), threads, 60 * timeout, max_shift_px=reach, resume=resume)
    chosen = map_methods(tuple(words(methods)), limits)
    collection, subjects = choose_subjects(None if entries is None else words(entries), data, validation=validation)
    make_folders(out, work)
    if collection == PROCEDURAL:
        tell_procedural()
    request = AbinitioRequest(
        subjects if entries is not None else subjects[:STRUCTURES],
        collection,
        tuple(seeds_of(seeds)),
        snrs,
        ctfs,
        chosen,
        settings,
        data,
        out.resolve(),
        work.resolve(),
        resume=resume,
        threads=threads,
    )
    with showing_progress() as progress:
        results = abinitio_contest(request, shown=tell_row, progress=progress)
    tell(results, out)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    first = None if row.get("first_05_px") is None else f"first map {row['first_verdict']}, {row['first_05_px']:.2f} px"
    refined = (
        f"refined {row['verdict']}, {row['fsc_05_px']:.2f} px, {row['seconds']:.0f} s" if "seconds" in row else None
    )
    said = ", ".join(filter(None, (first, refined, row["note"] if row.get("failed") else None)))
    where = f"{row['entry']}, seed {row['seed']}, CTF {row['ctf']}, SNR {row['snr']:g}, {row['method']}"
    console.print(f"{where}: {said}", markup=False)
