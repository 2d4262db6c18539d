"""`clarice benchmark null`: first maps of images that show nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.benchmark.nulls import KINDS, NAME, NOISE, PARTICLES, NullRequest, nulls
from clarice.benchmark.records import Row
from clarice.benchmark.structures import seeds_of
from clarice.cli.benchmark_options import BoxOption, OutOption, ResumeOption, some_of
from clarice.cli.benchmark_results import tell
from clarice.cli.console import console, showing_progress
from clarice.cli.output_folder import make_folder
from clarice.core.errors import UsageError
from clarice.pipeline.first_map_settings import Method

_O = typer.Option
# Fewer particles cannot be told apart from noise by any method, and smaller boxes show no molecule.
_FEWEST_PARTICLES, _LEAST_BOX = 200, 16


def register(protocols: typer.Typer) -> None:
    """Adds the command to the group of protocols."""
    protocols.command(NAME)(benchmark_null)


def benchmark_null(
    kinds: Annotated[str, _O("--kinds", help=f"What images show, of {', '.join(KINDS)}.")] = f"{NOISE},{PARTICLES}",
    methods: Annotated[str, _O("--methods", help=f"Ways to a first map, of {', '.join(Method)}.")] = Method.LEARNED,
    seeds: Annotated[str, _O("--seeds", help="Seeds, a molecule and its stacks each; as in 1-100.")] = "1-100",
    particles: Annotated[int, _O("--particles", min=_FEWEST_PARTICLES, help="Images a stack.")] = 1000,
    box: BoxOption = 64,
    snr: Annotated[float, _O("--snr", help="Signal-to-noise ratio of the particles.")] = 0.05,
    out: OutOption = Path("benchmarks"),
    resume: ResumeOption = False,
) -> None:
    """Make first maps of pure noise, of particles with random phases, and of particles; count those not doubted."""
    chosen, ways = some_of(kinds, "--kinds", KINDS), some_of(methods, "--methods", list(Method))
    if not snr > 0:
        raise UsageError(f"--snr {snr:g} must be above 0")
    if box < _LEAST_BOX:
        raise UsageError(f"--box {box} must be at least {_LEAST_BOX}")
    make_folder(out)
    request = NullRequest(
        chosen, [Method(way) for way in ways], seeds_of(seeds), particles, box, snr, out.resolve(), resume
    )
    with showing_progress() as progress:
        results = nulls(request, shown=tell_row, progress=progress)
    tell(results, out)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    said = row["note"] if row.get("failed") else f"{row['verdict']}, {row['log_likelihood']:.2f} above noise an image"
    console.print(f"seed {row['seed']}, {row['kind']}, {row['method']}: {said}", markup=False)
