"""The protocol `synchronization`: rotations from lines of which a known share is right, the others running anywhere.

Outlier model: each pair of images keeps its true line with the probability stated; otherwise the line's direction is
uniform in both images, independently. Right lines are exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from clarice.abinitio.common_lines import CommonLines, implied_angles
from clarice.abinitio.synchronize import Synchronized, consensus, least_deviations, spectral
from clarice.abinitio.voting import handed, voted
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.core.progress import Progress, silent
from clarice.geometry.so3 import FloatArray, random_rotations
from clarice.metrics.orientation import orientation_errors

NAME = "synchronization"
VERSION = 1
COLUMNS = (
    Column("images", "images"),
    Column("lines right", "share", "{:g}"),
    Column("seed", "seed"),
    Column("method", "method"),
    Column("orientation error, mean °", "orientation_mean_deg", "{:.2f}"),
    Column("median °", "orientation_median_deg", "{:.2f}"),
    Column("time, s", "seconds", "{:.1f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
KEYS = ("images", "share", "seed", "method")
METHODS: dict[str, Callable[[CommonLines], Synchronized]] = {
    "spectral": spectral,
    "least-deviations": least_deviations,
    "consensus": consensus,
    "voting": voted,
    "sync3n": handed,
}


@dataclass(frozen=True)
class SynchronizationRequest:
    """A call of the protocol: numbers of images, shares of right lines, seeds and methods; results go to `out`."""

    images: Sequence[int]
    shares: Sequence[float]
    seeds: Sequence[int]
    methods: Sequence[str]
    out: Path
    resume: bool = False


def outlying_lines(count: int, share: float, seed: int) -> tuple[FloatArray, CommonLines]:
    """Random rotations (n, 3, 3) and their lines by the outlier model."""
    generator = torch.Generator().manual_seed(seed)
    rotations = random_rotations(count, generator)
    right = torch.rand((count, count), generator=generator).triu(1) < share
    right = right.triu(1) | right.triu(1).T
    anywhere = 2 * torch.pi * torch.rand((count, count), generator=generator)
    angle = torch.where(right, implied_angles(torch.from_numpy(rotations)).float(), anywhere)
    zero = torch.zeros((count, count))
    return rotations, CommonLines(angle, zero, zero)


def measure_row(images: int, share: float, seed: int, method: str) -> Row:
    """One method on one set of lines."""
    rotations, lines = outlying_lines(images, share, seed)
    started = time.perf_counter()
    found = METHODS[method](lines)
    seconds = time.perf_counter() - started
    errors = orientation_errors(np.asarray(found.rotations), rotations).angle_deg
    return {
        "orientation_mean_deg": round(float(errors.mean()), 3),
        "orientation_median_deg": round(float(np.median(errors)), 3),
        "seconds": round(seconds, 2),
    }


def synchronization(
    request: SynchronizationRequest, *, shown: Callable[[Row], None], progress: Progress = silent
) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept, and shown as well."""
    cells = list(product(request.images, request.shares, request.seeds, request.methods))

    def tasks() -> Iterator[Task]:
        for done, (images, share, seed, method) in enumerate(cells):
            progress("synchronizing", done, len(cells))
            key: Row = {"images": images, "share": share, "seed": seed, "method": method}
            yield Task((key,), partial(_rows, images, share, seed, method))

    model = "a wrong line runs anywhere in both images, a right one is exact"
    results = Results(NAME, VERSION, {"outliers": model, "threads": torch.get_num_threads()}, KEYS, COLUMNS)
    results.places = (str(request.out),)
    if request.resume:
        results.take_up(request.out)
    return measure_rows(results, tasks(), request.out, summarise=summarise, shown=shown, show_kept=True)


def _rows(images: int, share: float, seed: int, method: str) -> list[Row]:
    return [measure_row(images, share, seed, method)]


def summarise(results: Results) -> None:
    """For each number of images and method the mean error at every share."""
    results.summary = {}
    done = [row for row in results.rows if not row.get("failed")]
    for images, method in dict.fromkeys((row["images"], row["method"]) for row in done):
        errors: dict[float, list[float]] = {}
        for row in done:
            if (row["images"], row["method"]) == (images, method):
                errors.setdefault(row["share"], []).append(row["orientation_mean_deg"])
        told = ", ".join(f"{share:.0%} {np.mean(each):.2f}°" for share, each in sorted(errors.items(), reverse=True))
        results.summary[f"{images} images, {method}"] = told
