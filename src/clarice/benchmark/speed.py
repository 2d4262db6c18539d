"""The protocol `speed`: time and memory of `clarice denoise` as stacks grow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from clarice.benchmark.measured import CLARICE, run_measured
from clarice.benchmark.protocol import SimulatedStack, StackSettings, judge_images, make_stack
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent

NAME = "speed"
VERSION = 1
COUNTS = (1000, 5000, 10_000, 20_000)
METHODS = ("polar-transformer", "covariance-wiener", "wiener")
COLUMNS = (
    Column("method", "method"),
    Column("particles", "particles", "{:,}"),
    Column("time, s", "seconds", "{:.1f}"),
    Column("CPU, s", "cpu_seconds", "{:.1f}"),
    Column("images/s", "images_per_second", "{:.0f}"),
    Column("peak memory, MB", "peak_memory_mb", "{:.0f}"),
    Column("time over that of half as many", "over_half", "{:.2f}"),
    Column("relative MSE", "relative_mse", "{:.3f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)


@dataclass(frozen=True)
class SpeedRequest:
    """What a call is to do: denoise stacks of `counts` particles of one structure with each of `methods`."""

    entry: str
    counts: Sequence[int]
    methods: Sequence[str]
    settings: StackSettings
    out: Path
    work: Path
    data: Path | None = None
    seed: int = 1
    threads: int = 2
    resume: bool = False
    program: Sequence[str] = CLARICE
    timeout_seconds: float = 7200.0

    def __post_init__(self) -> None:
        if min(self.counts, default=0) < 1:
            raise UsageError("--particles must be numbers of at least 1, as in --particles 10000,20000")

    def results(self) -> Results:
        """Results to fill: empty, or those of the call that is resumed. Counts and methods may differ between calls."""
        settings: dict[str, Any] = {
            name: value for name, value in self.settings.record(self.data, self.threads).items() if name != "particles"
        }
        settings |= {"structure": self.entry, "seed": self.seed}
        results = Results(NAME, VERSION, settings, ("method", "particles"), COLUMNS)
        results.places = tuple(str(path) for path in (self.work, self.out, self.data) if path is not None)
        results.trained_on = "the training structures, as the card of each network's weights says"
        if self.resume:
            results.take_up(self.out)
        if self.data is None:
            results.notes.append("run on a procedural molecule, which stands in for the PDB entry")
        return results


def speed(request: SpeedRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept."""
    return measure_rows(
        request.results(), _tasks(request, progress), request.out, summarise=summarise, shown=shown, show_kept=True
    )


def _tasks(request: SpeedRequest, progress: Progress) -> Iterator[Task]:
    for count in sorted(request.counts):
        stack = cache(partial(_stack, count, request, progress))  # made when the first row needs it
        for method in request.methods:
            key: Row = {"method": method, "particles": count}
            yield Task((key,), partial(_rows, method, stack, request))


def _rows(method: str, make: Callable[[], SimulatedStack], request: SpeedRequest) -> list[Row]:
    stack = make()
    count, out = len(stack.truth), stack.folder.with_name(method)
    shutil.rmtree(out, ignore_errors=True)
    usage = run_measured(
        [*request.program, "denoise", stack.star, "--method", method, "-o", out],
        folder=stack.folder,
        log=out.with_name(f"{method}.log"),
        threads=request.threads,
        timeout_seconds=request.timeout_seconds,
    )
    row: Row = {
        "seconds": round(usage.seconds, 2),
        "cpu_seconds": round(usage.cpu_seconds, 2),
        "peak_memory_mb": round(usage.peak_memory_mb),
    }
    if usage.failed:
        return [{**row, "failed": True, "note": usage.message}]
    return [{**row, "images_per_second": round(count / usage.seconds, 1), **judge_images(out / "denoised.star", stack)}]


def _stack(count: int, request: SpeedRequest, progress: Progress) -> SimulatedStack:
    subject = load_subject(request.entry, structures_folder(request.data))
    folder = request.work / NAME / f"{request.entry}_{count}" / "data"
    return make_stack(subject, request.seed, replace(request.settings, particles=count), folder, request.data, progress)


def summarise(results: Results) -> None:
    """Holds each stack against one of half as many particles, and says what a doubling costs."""
    rows = {(row["method"], row["particles"]): row for row in results.rows if not row.get("failed")}
    results.summary = {}
    for (method, count), row in sorted(rows.items()):
        half = rows.get((method, count // 2)) if count % 2 == 0 else None
        if half is not None:
            row["over_half"] = round(row["seconds"] / half["seconds"], 3)
            text = f"{row['over_half']:.2f} × the time, {row['peak_memory_mb']:.0f} MB"
            results.summary[f"{method}: {count:,} particles over {count // 2:,}"] = text
