"""The protocol `speed`: time and memory of `clarice denoise` and `classify` as stacks grow.

Asked for several processes, each stack is gone through once more: by so many at once, killed halfway through and
started again. Its outputs are then held against those of the undisturbed process, byte by byte.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from clarice.benchmark.measured import CLARICE, Usage, run_measured
from clarice.benchmark.protocol import SimulatedStack, StackSettings, judge_images, make_stack
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import get_denoiser
from clarice.pipeline.unfinished import FOLDER

NAME = "speed"
VERSION = 3
COUNTS = (1000, 5000, 10_000, 20_000)
# 2D classes, beside the names of denoisers.
CLASSES = "classify"
METHODS = ("polar-transformer", "covariance-wiener", "wiener", CLASSES)
# What is compared: images, and a table of numbers.
OUTPUTS = {True: ("classes.mrcs", "class_members.star"), False: ("denoised.mrcs", "denoised.star")}
COLUMNS = (
    Column("method", "method"),
    Column("particles", "particles", "{:,}"),
    Column("processes", "processes"),
    Column("killed after, s", "killed_after_seconds", "{:.0f}"),
    Column("results kept", "results_kept", "{:,}"),
    Column("files of the undisturbed one", "same_files"),
    Column("time, s", "seconds", "{:.1f}"),
    Column("CPU, s", "cpu_seconds", "{:.1f}"),
    Column("images/s", "images_per_second", "{:.0f}"),
    Column("peak memory of a process, MB", "peak_memory_mb", "{:.0f}"),
    Column("of all together, MB", "peak_together_mb", "{:.0f}"),
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
    processes: int = 1
    resume: bool = False
    program: Sequence[str] = CLARICE
    timeout_seconds: float = 7200.0

    def __post_init__(self) -> None:
        if min(self.counts, default=0) < 1:
            raise UsageError("--particles must be numbers of at least 1, as in --particles 10000,20000")
        if self.processes > 1 and not all(name == CLASSES or get_denoiser(name).shared for name in self.methods):
            raise UsageError("--processes is for methods whose work is shared out: name such ones by --methods")

    def results(self) -> Results:
        """Results to fill: empty, or those of the call that is resumed. Counts and methods may differ between calls."""
        settings: dict[str, Any] = {
            name: value for name, value in self.settings.record(self.data, self.threads).items() if name != "particles"
        }
        settings |= {"structure": self.entry, "seed": self.seed}
        results = Results(NAME, VERSION, settings, ("method", "particles", "processes"), COLUMNS)
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
            keys: list[Row] = [
                {"method": method, "particles": count, "processes": number}
                for number in dict.fromkeys((1, request.processes))
            ]
            yield Task(tuple(keys), partial(_rows, method, stack, request))


def _rows(method: str, make: Callable[[], SimulatedStack], request: SpeedRequest) -> list[Row]:
    """The row of one process and, where they are asked for, of several."""
    work = _Work(method, make(), request)
    undisturbed = work.undisturbed()
    if request.processes == 1:
        return [undisturbed]
    if undisturbed.get("failed"):
        return [undisturbed, {"failed": True, "note": "one process failed before"}]
    return [undisturbed, work.killed_halfway(undisturbed["seconds"])]


@dataclass(frozen=True)
class _Work:
    """One method on one stack."""

    method: str
    stack: SimulatedStack
    request: SpeedRequest

    def undisturbed(self) -> Row:
        """By a single process."""
        out = self._fresh(1)
        usage = self._run(self.request.program, out, self.request.threads, self.request.timeout_seconds)
        if usage.failed:
            return {**_used(usage), "failed": True, "note": usage.message}
        judged = {} if self.method == CLASSES else judge_images(out / "denoised.star", self.stack)
        return {**_used(usage), "images_per_second": self._speed(usage.seconds), **judged}

    def killed_halfway(self, undisturbed_seconds: float) -> Row:
        """By several processes, killed together after half the time that one took, and started again.

        They share out the same threads, so that they would be about halfway.
        """
        number = self.request.processes
        out = self._fresh(number)
        launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python")
        program = (*launcher, "--nproc-per-node", str(number), *self.request.program)
        threads = max(1, self.request.threads // number)
        killed = self._run(program, out, threads, undisturbed_seconds / 2, together=True)
        kept = len(list((out / FOLDER).rglob("*.safetensors")))
        limit = self.request.timeout_seconds
        again = self._run(program, out, threads, limit, together=True) if killed.timed_out else killed
        if again.failed:
            return {**_used(again), "failed": True, "note": again.message}
        seconds = killed.seconds + again.seconds if killed.timed_out else killed.seconds
        return {
            # Processor time of a launcher's processes is not added up.
            "seconds": round(seconds, 2),
            "peak_memory_mb": round(again.peak_memory_mb),
            "peak_together_mb": round(max(killed.peak_together_mb, again.peak_together_mb)),
            "images_per_second": self._speed(seconds),
            "killed_after_seconds": round(killed.seconds, 1) if killed.timed_out else None,
            "results_kept": kept,
            "same_files": "yes" if self._digests(number) == self._digests(1) else "NO",
        }

    def _fresh(self, processes: int) -> Path:
        out = self._folder(processes)
        shutil.rmtree(out, ignore_errors=True)
        return out

    def _folder(self, processes: int) -> Path:
        return self.stack.folder.with_name(self.method if processes == 1 else f"{self.method}-by-{processes}")

    def _run(
        self, program: Sequence[str], out: Path, threads: int, limit_seconds: float, *, together: bool = False
    ) -> Usage:
        asked = ("classify",) if self.method == CLASSES else ("denoise", "--method", self.method)
        return run_measured(
            [*program, asked[0], self.stack.star, *asked[1:], "-o", out],
            folder=self.stack.folder,
            log=out.with_name(f"{out.name}.log"),
            threads=threads,
            timeout_seconds=limit_seconds,
            together=together,
        )

    def _speed(self, seconds: float) -> float:
        return round(len(self.stack.truth) / seconds, 1)

    def _digests(self, processes: int) -> list[str]:
        found = []
        for name in OUTPUTS[self.method == CLASSES]:
            path = self._folder(processes) / name
            if not path.is_file():
                found.append(f"no {name} by {processes}")
                continue
            with path.open("rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        return found


def _used(usage: Usage) -> Row:
    return {
        "seconds": round(usage.seconds, 2),
        "cpu_seconds": round(usage.cpu_seconds, 2),
        "peak_memory_mb": round(usage.peak_memory_mb),
    }


def _stack(count: int, request: SpeedRequest, progress: Progress) -> SimulatedStack:
    subject = load_subject(request.entry, structures_folder(request.data))
    folder = request.work / NAME / f"{request.entry}_{count}" / "data"
    return make_stack(subject, request.seed, replace(request.settings, particles=count), folder, request.data, progress)


def summarise(results: Results) -> None:
    """Holds each stack against one of half as many particles, and says what a doubling costs."""
    whole = [row for row in results.rows if not row.get("failed")]
    rows = {(row["method"], row["particles"]): row for row in whole if row["processes"] == 1}
    results.summary = {}
    for (method, count), row in sorted(rows.items()):
        half = rows.get((method, count // 2)) if count % 2 == 0 else None
        if half is not None:
            row["over_half"] = round(row["seconds"] / half["seconds"], 3)
            text = f"{row['over_half']:.2f} × the time, {row['peak_memory_mb']:.0f} MB"
            results.summary[f"{method}: {count:,} particles over {count // 2:,}"] = text
    for row in whole:
        if row["processes"] > 1:
            alone = rows[row["method"], row["particles"]]["seconds"]
            same = "the same files" if row["same_files"] == "yes" else "OTHER FILES"
            after = row["killed_after_seconds"]
            killed = (
                "ended before they could be killed"
                if after is None
                else f"killed after {after:.0f} s with {row['results_kept']:,} results"
            )
            results.summary[f"{row['method']}: {row['particles']:,} particles, {row['processes']} processes"] = (
                f"{killed}, then done in {row['seconds'] / alone:.2f} × the time of one in all; {same}"
            )
