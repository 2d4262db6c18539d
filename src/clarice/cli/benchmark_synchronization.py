"""`clarice benchmark synchronization`: rotations from lines with outliers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.records import Row
from clarice.benchmark.structures import seeds_of
from clarice.benchmark.synchronization import METHODS, NAME, SynchronizationRequest, synchronization
from clarice.cli.benchmark_denoise import numbers
from clarice.cli.benchmark_options import OutOption, ResumeOption, some_of
from clarice.cli.benchmark_results import tell
from clarice.cli.console import console, showing_progress
from clarice.core.errors import UsageError

_O = typer.Option
FEWEST_IMAGES = 3


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command(NAME)(benchmark_synchronization)


def benchmark_synchronization(
    images: Annotated[str, _O("--images", help="Numbers of images, a list.")] = "500,1000",
    shares: Annotated[str, _O("--shares", help="Shares of right lines, a list.")] = "0.9,0.7,0.5,0.3,0.2,0.1",
    seeds: Annotated[str, _O("--seeds", help="Seeds, one set of lines each.")] = "1",
    methods: Annotated[str, _O("--methods", help=f"Of {', '.join(METHODS)}.")] = ",".join(METHODS),
    out: OutOption = Path("benchmarks"),
    resume: ResumeOption = False,
) -> None:
    """Find rotations from common lines of which a known share is right, and compare with the truth."""
    chosen = some_of(methods, "--methods", METHODS)
    counts, ratios = numbers(images, "--images", int), numbers(shares, "--shares", float)
    if not counts or min(counts) < FEWEST_IMAGES:
        raise UsageError(f"--images {images!r}: rotations need {FEWEST_IMAGES} images or more")
    if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
        raise UsageError(f"--shares {shares!r} must lie above 0 and at most at 1")
    request = SynchronizationRequest(counts, ratios, seeds_of(seeds), chosen, out.resolve(), resume)
    with showing_progress() as progress:
        results = synchronization(request, shown=tell_row, progress=progress)
    tell(results, out)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    said = row["note"] if row.get("failed") else f"{row['orientation_mean_deg']:.2f}°, {row['seconds']:.1f} s"
    console.print(f"{row['images']} images, {row['share']:.0%} of lines right, {row['method']}: {said}", markup=False)
