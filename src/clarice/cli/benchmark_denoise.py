"""`clarice benchmark denoise`: which cells, structures and methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from clarice.benchmark.denoise import SETS, DenoiseRequest, denoise
from clarice.benchmark.denoise_cells import CTFS, NOISES, SETTINGS, SIZES, SNRS, Grid
from clarice.benchmark.denoise_methods import chosen_methods, our_methods
from clarice.benchmark.denoise_peers import peer_methods
from clarice.benchmark.denoise_subjects import PROCEDURAL, choose_subjects
from clarice.benchmark.records import Row
from clarice.benchmark.structures import words
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
    tell_procedural,
)
from clarice.cli.benchmark_results import tell
from clarice.cli.console import console, showing_progress
from clarice.cli.seed_option import seed_option
from clarice.core.errors import UsageError

Number = TypeVar("Number", int, float)
_O = typer.Option
# Words that stand for several methods.
ALL, PEERS = "ours", "peers"


def listed(values: Sequence[object]) -> str:
    """As a list is written on the command line."""
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


SettingsOption = Annotated[str, _O("--settings", help=f"Which views a set shows, of {', '.join(SETTINGS)}.")]
SizesOption = Annotated[str, _O("--sizes", help="Images a set; 1 is the setting `single`.")]
SnrOption = Annotated[str, _O("--snr", help="Signal-to-noise ratios.")]
NoiseOption = Annotated[str, _O("--noise", help=f"Kinds of noise, of {', '.join(NOISES)}.")]
CtfOption = Annotated[
    str,
    _O("--ctf", help=f"CTF and shifts, of {', '.join(CTFS)}; on-fine: structures whose pixel is small, apart."),
]
EntriesOption = Annotated[
    str | None, _O("--entries", help="Structures by entry; the largest of each cluster of 40 kDa if absent.")
]
ValidationOption = Annotated[
    bool, _O("--validation", help="Take the validation structures: for all but published tables.")
]
MethodsOption = Annotated[
    str, _O("--methods", help="Methods by name; `ours` stands for all of ours, `peers` for all peers.")
]
SetsOption = Annotated[int, _O("--sets", help="Sets a structure in each cell.")]
SeedOption = Annotated[int, seed_option("Seed of views, angles and noise.")]


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command("denoise")(benchmark_denoise)


def benchmark_denoise(
    settings: SettingsOption = listed(SETTINGS),
    sizes: SizesOption = listed(SIZES),
    snr: SnrOption = listed(SNRS),
    noise: NoiseOption = "gaussian",
    ctf: CtfOption = "off",
    entries: EntriesOption = None,
    validation: ValidationOption = False,
    methods: MethodsOption = ALL,
    sets: SetsOption = SETS,
    seed: SeedOption = 1,
    box: BoxOption = 64,
    data: DataOption = None,
    molecules: MoleculesOption = False,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark/denoise"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Denoise sets of images of one molecule with every method, and compare them with the truth."""
    insist_on_limits(threads, timeout)
    grid = Grid(words(settings), numbers(sizes, "--sizes", int), numbers(snr, "--snr", float), words(noise), words(ctf))
    data = None if molecules else data
    ours, peers = our_methods(), peer_methods(work.resolve(), threads, 60 * timeout)
    chosen = chosen_methods(words(methods), {**ours, **peers}, {ALL: [*ours], PEERS: [*peers]})
    collection, subjects = choose_subjects(None if entries is None else words(entries), data, validation=validation)
    make_folders(out, work)
    if collection == PROCEDURAL:
        tell_procedural()
    request = DenoiseRequest(
        subjects,
        collection,
        grid,
        chosen,
        out.resolve(),
        work.resolve(),
        data,
        sets=sets,
        seed=seed,
        box=box,
        threads=threads,
        resume=resume,
    )
    with showing_progress() as progress:
        results = denoise(request, shown=tell_row, progress=progress)
    tell(results, out)


def numbers(text: str, option: str, kind: Callable[[str], Number]) -> list[Number]:
    """The numbers of a list separated by commas or blanks; raises UsageError for anything else."""
    try:
        return [kind(word) for word in words(text)]
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a list of numbers: write them as in {option} 1,2") from error


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    cell = f"{row['setting']} {row['size']}, {row['noise']}, CTF {row['ctf']}, SNR {row['snr']:g}, {row['method']}"
    said = str(row.get("note")) if row.get("failed") else f"relative MSE {row['relative_mse']:.3f}"
    console.print(f"{cell}: {said}", markup=False)
