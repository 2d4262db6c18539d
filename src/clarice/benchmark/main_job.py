"""The protocol `main-job`: `clarice run` on simulated stacks with each denoiser, and whether it finds the structure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from clarice.benchmark.measured import CLARICE, Usage, run_measured
from clarice.benchmark.protocol import (
    FAILED,
    FINEST_PIXEL_ANGSTROM,
    MAP_COLUMNS,
    SimulatedStack,
    StackSettings,
    judge_images,
    judge_map,
    judge_poses,
    make_stack,
)
from clarice.benchmark.records import Column, Results, Row, load_average, with_interval
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.core.errors import ClariceError
from clarice.core.progress import Progress, silent

NAME = "main-job"
VERSION = 2
COLUMNS = (
    Column("entry", "entry"),
    Column("seed", "seed"),
    Column("denoiser", "method"),
    *MAP_COLUMNS,
    Column("stated, Å", "stated_angstrom", "{:.1f}"),
    Column("hand", "hand"),
    Column("orientation error, median °", "orientation_median_deg", "{:.1f}"),
    Column("modulo", "symmetry"),
    Column("denoised, relative MSE", "relative_mse", "{:.3f}"),
    Column("denoised, FRC 0.5, Å", "frc_05_angstrom", "{:.1f}"),
    Column("time, s", "seconds", "{:.0f}"),
    Column("CPU, s", "cpu_seconds", "{:.0f}"),
    Column("peak memory, MB", "peak_memory_mb", "{:.0f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
# The denoisers a run is made with: the network, and the best filter, which learns from the stack alone.
METHODS = ("polar-transformer", "covariance-wiener")


@dataclass(frozen=True)
class Request:
    """What a call of a protocol is to do. `data` holds the structures; results go to `out`, stacks to `work`."""

    entries: Sequence[str]
    seeds: Sequence[int]
    settings: StackSettings
    data: Path | None
    out: Path
    work: Path
    resume: bool = False
    threads: int = 2
    program: Sequence[str] = CLARICE
    timeout_seconds: float = 7200.0

    def stacks(self) -> Iterator[tuple[str, int]]:
        """Entry and seed of each stack."""
        return product(self.entries, self.seeds)

    def results(
        self,
        protocol: str,
        version: int,
        keys: tuple[str, ...],
        columns: tuple[Column, ...],
        without: Sequence[str] = (),
        **more: object,
    ) -> Results:
        """Results to fill: empty, or those of the call that is resumed.

        `more` joins the settings, and those `without` which the protocol does leave them.
        """
        settings = self.settings.record(self.data, self.threads)
        settings["structures"] = "procedural molecules" if self.data is None else "PDB entries"
        settings = {name: value for name, value in (settings | more).items() if name not in without}
        results = Results(protocol, version, settings, keys, columns)
        results.places = tuple(str(path) for path in (self.work, self.out, self.data) if path is not None)
        if self.resume:
            results.take_up(self.out)
        if self.data is None:
            results.notes.append("run on procedural molecules, which stand in for the protocol's PDB entries")
        return results


def run_clarice(stack: SimulatedStack, folder: Path, request: Request, method: str) -> Usage:
    """`clarice run` on the stack into a fresh `folder`: never a resumed run, so that the time is the whole time."""
    shutil.rmtree(folder, ignore_errors=True)
    command: list[str | Path] = [*request.program, "run", stack.star, "-o", folder, "--seed", str(stack.seed)]
    command += ["--method", method]
    return run_measured(
        command,
        folder=stack.folder,
        log=folder.with_name(f"{folder.name}.log"),
        threads=request.threads,
        timeout_seconds=request.timeout_seconds,
    )


def measure_row(make: Callable[[], SimulatedStack], method: str, request: Request) -> Row:
    """A stack run with a denoiser and judged. A run that fails is a row that says why."""
    stack = make()
    load = load_average()
    subject, run = stack.subject, stack.folder.with_name(method)
    usage = run_clarice(stack, run, request, method)
    row: Row = {
        "entry": subject.entry,
        "seed": stack.seed,
        "method": method,
        "source": subject.source,
        "symmetry": " ".join(part for part in (subject.point_group.name, subject.point_group.note) if part),
        "pixel_size_angstrom": round(stack.pixel_size_angstrom, 4),
        "nyquist_angstrom": round(2 * stack.pixel_size_angstrom, 3),
        "load_before": load,
        "seconds": round(usage.seconds, 1),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_memory_mb": round(usage.peak_memory_mb),
        "apart": stack.pixel_size_angstrom < FINEST_PIXEL_ANGSTROM,
    }
    if row["apart"]:
        row["note"] = f"pixel below {FINEST_PIXEL_ANGSTROM} Å: apart, not in the summary"
    if usage.failed:
        return {**row, **FAILED, "note": usage.message}
    try:
        return {**row, **judged(stack, run)}
    except ClariceError as error:
        return {**row, **FAILED, "note": str(error)}


def _rows(make: Callable[[], SimulatedStack], method: str, request: Request) -> list[Row]:
    return [measure_row(make, method, request)]


def _stack(entry: str, seed: int, request: Request, progress: Progress) -> SimulatedStack:
    subject = load_subject(entry, structures_folder(request.data))
    folder = request.work / NAME / f"{entry}_seed{seed}" / "data"
    return make_stack(subject, seed, request.settings, folder, request.data, progress)


def judged(stack: SimulatedStack, run: Path) -> dict[str, Any]:
    """Everything a finished run folder is judged by."""
    scores = vars(judge_map(run / "map.mrc", stack))
    right = bool(scores["right"])
    return {
        **scores,
        **judge_poses(run / "particles.star", stack),
        **judge_images(run / "denoised.star", stack),
        "stated_angstrom": stated_resolution(run),
        "stage_seconds": stage_seconds(run),
        "verdict": "right" if right else "not found",
    }


def stated_resolution(run: Path) -> float | None:
    """The resolution in Å the run itself states, FSC 0.143 between half maps."""
    path = run / "fsc.json"
    if not path.is_file():
        return None
    return float(json.loads(path.read_text(encoding="utf-8"))["resolution_angstrom"]["0.143"])


def stage_seconds(run: Path) -> dict[str, float]:
    """Seconds of each stage, in order, from the run's own record."""
    path = run / "run.json"
    if not path.is_file():
        return {}
    stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
    return {str(stage["name"]): round(float(stage["seconds"]), 2) for stage in stages}


def main_job(
    request: Request, methods: Sequence[str] = METHODS, *, shown: Callable[[Row], None], progress: Progress = silent
) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept, and shown as well."""

    def tasks() -> Iterator[Task]:
        for entry, seed in request.stacks():
            stack = cache(partial(_stack, entry, seed, request, progress))  # made when the first row needs it
            for method in methods:
                key: Row = {"entry": entry, "seed": seed, "method": method}
                yield Task((key,), partial(_rows, stack, method, request))

    results = request.results(NAME, VERSION, ("entry", "seed", "method"), COLUMNS)
    results.trained_on = "the training structures, as the card of each network's weights says"
    return measure_rows(
        results,
        tasks(),
        request.out,
        summarise=summarise,
        shown=shown,
        failure=FAILED,
        show_kept=True,
    )


def summarise(results: Results) -> None:
    """For each denoiser the figures over all rows that count, with 95 % intervals by bootstrap over structures."""
    rows = [{**row, "found": float(bool(row.get("right")))} for row in results.rows if not row.get("apart")]
    texts: dict[str, str | None] = {}
    for method in dict.fromkeys(row["method"] for row in results.rows):
        texts |= {
            f"{method}: {name}": text for name, text in _summary([r for r in rows if r["method"] == method]).items()
        }
    results.summary = {name: text for name, text in texts.items() if text is not None}


def _summary(rows: Sequence[Row]) -> dict[str, str | None]:
    return {
        "right structures": f"{sum(row['found'] for row in rows):.0f} of {len(rows)}",
        "share found": with_interval(rows, "found", "{:.2f}"),
        "FSC 0.5": with_interval(rows, "fsc_05_px", "{:.2f}", " px"),
        "orientation error": with_interval(rows, "orientation_median_deg", "{:.1f}", "°"),
        "denoised images, relative MSE": with_interval(rows, "relative_mse", "{:.3f}"),
        "time": with_interval(rows, "seconds", "{:.0f}", " s"),
        "longest time": f"{max((row.get('seconds', 0.0) for row in rows), default=0.0):.0f} s",
        "largest peak memory": f"{max((row.get('peak_memory_mb', 0.0) for row in rows), default=0.0):.0f} MB",
    }
