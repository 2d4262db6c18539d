"""`clarice benchmark structural-noise`: which kinds, strengths, structures and methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.denoise_methods import chosen_methods, our_methods
from clarice.benchmark.denoise_peers import peer_methods
from clarice.benchmark.denoise_subjects import PROCEDURAL, choose_subjects
from clarice.benchmark.records import Row
from clarice.benchmark.structural_cells import KINDS, SNRS, STRENGTHS, cells_of
from clarice.benchmark.structural_noise import PARTICLES, RAW, StructuralRequest, raw_images, structural_noise
from clarice.benchmark.structures import words
from clarice.cli.benchmark_denoise import (
    ALL,
    PEERS,
    EntriesOption,
    SeedOption,
    SnrOption,
    ValidationOption,
    listed,
    numbers,
)
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

_O = typer.Option
KindsOption = Annotated[
    str, _O("--kinds", help=f"Kinds of structural noise, of {', '.join(KINDS)}; mixed: all at half the strength.")
]
StrengthsOption = Annotated[str, _O("--strengths", help="Strengths of each kind.")]
MethodsOption = Annotated[
    str, _O("--methods", help="Methods by name; `ours` stands for all of ours and raw images, `peers` for all peers.")
]
ParticlesOption = Annotated[int, _O("--particles", help="Particles of each structure in each cell.")]
MapsOption = Annotated[bool, _O("--maps/--no-maps", help="Put maps together from each method's images.")]


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command("structural-noise")(benchmark_structural_noise)


def benchmark_structural_noise(
    kinds: KindsOption = listed(KINDS),
    strengths: StrengthsOption = listed(STRENGTHS),
    snr: SnrOption = listed(SNRS),
    entries: EntriesOption = None,
    validation: ValidationOption = False,
    methods: MethodsOption = ALL,
    particles: ParticlesOption = PARTICLES,
    maps: MapsOption = True,
    seed: SeedOption = 1,
    box: BoxOption = 64,
    data: DataOption = None,
    molecules: MoleculesOption = False,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark/structural-noise"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Denoise particles with structural noise by every method, and compare images and maps with the truth."""
    insist_on_limits(threads, timeout)
    cells = cells_of(words(kinds), numbers(strengths, "--strengths", float), numbers(snr, "--snr", float))
    data = None if molecules else data
    raw = raw_images()
    ours, peers = {RAW: raw, **our_methods()}, peer_methods(work.resolve(), threads, 60 * timeout)
    # The oracle averages images at their true angles; here no two images show the same view.
    alone = [name for name in ours if not name.startswith("oracle")]
    chosen = chosen_methods(words(methods), {**ours, **peers}, {ALL: alone, PEERS: [*peers]})
    collection, subjects = choose_subjects(None if entries is None else words(entries), data, validation=validation)
    make_folders(out, work)
    if collection == PROCEDURAL:
        tell_procedural()
    request = StructuralRequest(
        subjects,
        collection,
        cells,
        chosen,
        out.resolve(),
        work.resolve(),
        data,
        particles=particles,
        seed=seed,
        box=box,
        threads=threads,
        maps=maps,
        resume=resume,
    )
    with showing_progress() as progress:
        results = structural_noise(request, shown=_tell_row, progress=progress)
    tell(results, out)


def _tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    cell = f"{row['kind']} {row['strength']:g}, SNR {row['snr']:g}, {row['method']}"
    said = f"PSNR {row['psnr_db']:.2f} dB, SSIM {row['ssim']:.3f}" if not row.get("failed") else str(row.get("note"))
    console.print(f"{cell}: {said}", markup=False)
