"""`clarice benchmark ablations`: which variants, for how many images and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.ablation_variants import IMAGES, STRUCTURES, VARIANTS, chosen_variants
from clarice.benchmark.records import Row
from clarice.benchmark.structures import seeds_of, structures_folder
from clarice.cli.benchmark_options import (
    DataOption,
    MoleculesOption,
    OutOption,
    ResumeOption,
    ThreadsOption,
    WorkOption,
    insist_on_limits,
    make_folders,
    tell_procedural,
)
from clarice.cli.benchmark_results import tell
from clarice.cli.console import console, showing_progress

_O = typer.Option
_NAMES = tuple(variant.name for variant in VARIANTS)

VariantsOption = Annotated[
    str | None, _O("--variants", help=f"Variants, separated by commas, of: {', '.join(_NAMES)}. All if absent.")
]
SeedsOption = Annotated[str, _O("--seeds", help="Seeds, one training of each variant for each.")]
ImagesOption = Annotated[int, _O("--images", help="Images that each variant is trained on.")]
StructuresOption = Annotated[int, _O("--structures", help="Validation structures that each variant is judged on.")]


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command("ablations")(benchmark_ablations)


def benchmark_ablations(
    variants: VariantsOption = None,
    seeds: SeedsOption = "1",
    images: ImagesOption = IMAGES,
    structures: StructuresOption = STRUCTURES,
    data: DataOption = None,
    molecules: MoleculesOption = False,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
) -> None:
    """Train small networks, each with one thing taken away, on equally many images, and compare their errors."""
    insist_on_limits(threads, 1.0)
    data = None if molecules else data
    structures_folder(data)
    names = None if variants is None else [name.strip() for name in variants.split(",") if name.strip()]
    chosen, numbers = chosen_variants(names), tuple(seeds_of(seeds))
    from clarice.benchmark.ablations import AblationRequest, ablations

    request = AblationRequest(
        chosen,
        out.resolve(),
        work.resolve(),
        data,
        seeds=numbers,
        images=images,
        structures=structures,
        threads=threads,
        resume=resume,
    )
    make_folders(out, work)
    if data is None:
        tell_procedural()
    with showing_progress() as progress:
        results = ablations(request, shown=tell_row, progress=progress)
    tell(results, out)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    said = str(row.get("note")) if row.get("failed") else f"relative MSE {row['general']:.4f} in general sets"
    console.print(f"{row['variant']}, seed {row['seed']}: {said}", markup=False)
