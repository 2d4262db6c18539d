"""The protocol `denoise`: every denoiser on sets of images of one molecule, over views, size, SNR, noise and CTF."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clarice.benchmark.denoise_cells import CELL_KEYS, Cell, Grid, Sheet, grid_of
from clarice.benchmark.denoise_methods import Method
from clarice.benchmark.denoise_pictures import draw_sheets, keep_sample
from clarice.benchmark.denoise_scores import Answer, SetScores, output_power, over_sets, score
from clarice.benchmark.denoise_sets import MAX_SHIFT_PX, ImageSet, SignalStore, seed_of, with_noise
from clarice.benchmark.denoise_sorting import judge_sorting
from clarice.benchmark.denoise_table import COLUMNS, summarise
from clarice.benchmark.protocol import FINEST_PIXEL_ANGSTROM
from clarice.benchmark.records import Results, Row, bootstrap_interval, rounded
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import Subject, defocus_table
from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.physics.simulate import default_pixel_size

NAME = "denoise"
VERSION = 1
SETS = 20
# Images that are in memory at once, and noise-only images for the null, of so many structures' optics.
_IMAGES_AT_ONCE = 1024
_NULL_IMAGES, _NULL_STRUCTURES = 16, 4
_MEANS = ("relative_mse", "psnr_db", "ssim", "frc_05", "frc_0143")
_TOLD = ("purity", "ari", "angle_error_deg", "foretold_error", "coverage_90")


@dataclass(frozen=True)
class DenoiseRequest:
    """What a call is to do: `sets` sets of each subject in each cell of `grid`, for each of `methods`."""

    subjects: Sequence[Subject]
    collection: str
    grid: Grid
    methods: Sequence[Method]
    out: Path
    work: Path
    data: Path | None = None
    sets: int = SETS
    seed: int = 1
    box: int = 64
    threads: int = 2
    resume: bool = False

    def __post_init__(self) -> None:
        if self.sets < 1:
            raise UsageError(f"--sets {self.sets} must be at least 1")
        if self.box < 16:
            raise UsageError(f"--box {self.box} must be at least 16 pixels")

    def results(self) -> Results:
        """Results to fill: empty, or those of the call that is resumed. Cells and methods may differ between calls."""
        table = defocus_table(self.data)
        settings: dict[str, Any] = {
            "structures": f"{len(self.subjects)} of {self.collection}: "
            + " ".join(subject.entry for subject in self.subjects),
            "sets": self.sets,
            "seed": self.seed,
            "box": self.box,
            "pixel_size": "largest diameter / (0.65 × box)",
            "shifts_px": f"±{MAX_SHIFT_PX:g} with the CTF",
            "defocus": "EMPIAR-10028 table" if table else "model of EMPIAR-10028",
            "threads": self.threads,
        }
        results = Results(NAME, VERSION, settings, (*CELL_KEYS, "method"), COLUMNS)
        results.places = tuple(str(path) for path in (self.work, self.out, self.data) if path is not None)
        results.trained_on = "the training structures, as each weights' card says; filters and classes are not trained"
        if self.resume:
            results.take_up(self.out)
        if self.data is None:
            results.notes.append("run on procedural molecules, which stand in for the protocol's PDB entries")
        return results

    def subjects_of(self, sheet: Sheet) -> list[Subject]:
        """The structures a sheet is about: with the CTF those of coarse pixels, and the others apart."""
        if not sheet.with_ctf:
            return list(self.subjects)
        coarse = {s.entry: default_pixel_size(s.atoms, self.box) >= FINEST_PIXEL_ANGSTROM for s in self.subjects}
        return [s for s in self.subjects if coarse[s.entry] == (sheet.ctf == "on")]


def denoise(request: DenoiseRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row, and draws its pictures; finished rows of a resumed call stay."""
    torch.set_num_threads(request.threads)
    results = request.results()
    for sheet in request.grid.sheets():
        if not request.subjects_of(sheet):
            note = f"CTF {sheet.ctf}: no structure's pixel is on that side of {FINEST_PIXEL_ANGSTROM} Å"
            results.notes += [] if note in results.notes else [note]
            continue
        with tempfile.TemporaryDirectory(prefix="signals-", dir=request.work) as folder:
            table = defocus_table(request.data)
            store = SignalStore(sheet, request.sets, request.seed, request.box, table, Path(folder))
            tasks = _tasks(sheet, store, request, progress)
            measure_rows(results, tasks, request.out, summarise=summarise, shown=shown)
        drawn = [row for row in results.rows if not row.get("failed")]  # those of earlier calls too
        if drawn:
            methods = list(dict.fromkeys(row["method"] for row in drawn))
            draw_sheets(grid_of(drawn), request.subjects, methods, request.work, request.out)
    return results


def _tasks(sheet: Sheet, store: SignalStore, request: DenoiseRequest, progress: Progress) -> Iterator[Task]:
    for cell in request.grid.cells(sheet):
        for method in request.methods:
            key: Row = {**cell.key(), "method": method.name}
            yield Task((key,), partial(_rows, method, cell, store, request, progress))


def _rows(method: Method, cell: Cell, store: SignalStore, request: DenoiseRequest, progress: Progress) -> list[Row]:
    return [measure(method, cell, store, request, progress)]


def measure(
    method: Method, cell: Cell, store: SignalStore, request: DenoiseRequest, progress: Progress = silent
) -> Row:
    """The row of one method in one cell."""
    subjects = request.subjects_of(cell.sheet)
    measured: dict[str, _Structure] = {}
    for number, subject in enumerate(subjects, start=1):
        measured[subject.entry] = _structure(method, cell, store, subject, request)
        progress(f"{method.name}, {cell.name}", number, len(subjects))
    by_entry = {entry: one.figures for entry, one in measured.items()}
    errors = {entry: [figures["relative_mse"]] for entry, figures in by_entry.items()}
    interval = bootstrap_interval(errors, lambda drawn: float(drawn.mean()))
    null = _null(method, cell, store, subjects, request) if method.with_null else None
    power = float(np.mean([figures["output_power"] for figures in by_entry.values()]))
    notes = {one.note for one in measured.values() if one.note}
    row: Row = {
        **{key: _mean([figures.get(key) for figures in by_entry.values()]) for key in (*_MEANS, *_TOLD)},
        "relative_mse_interval": None if interval is None else [round(value, 5) for value in interval],
        "null": None if null is None or power == 0 else rounded(null / power),
        "ms_per_image": rounded(1000 * np.mean([one.seconds_per_image for one in measured.values()])),
        "structures": len(measured),
        "by_entry": {entry: figures["relative_mse"] for entry, figures in by_entry.items()},
        **method.about,
    }
    return {**row, "note": "; ".join(sorted(notes))} if notes else row


@dataclass(frozen=True)
class _Structure:
    figures: Mapping[str, float]
    seconds_per_image: float
    note: str


def _structure(method: Method, cell: Cell, store: SignalStore, subject: Subject, request: DenoiseRequest) -> _Structure:
    """All sets of one structure; the first image of the first set is kept for the pictures."""
    scores: list[SetScores] = []
    sorting: list[dict[str, float]] = []
    seconds, notes = 0.0, set()
    for sets in _chunks(cell, store, subject, request.seed):
        for answer, truth in zip(method.measure(sets, cell.sheet.setting), sets, strict=True):
            if truth.number == 0:
                keep_sample(request.work, cell, method.name, answer.images, truth)
            scores.append(score(answer, truth))
            sorting.append(_sorting(answer, truth))
            seconds += answer.seconds
            notes.add(answer.note)
    figures = {key: rounded(value) for key, value in over_sets(scores).items()}
    for key in _TOLD:
        mean = _mean([one.get(key) for one in sorting])
        if mean is not None:
            figures[key] = mean
    return _Structure(figures, seconds / sum(one.images for one in scores), "; ".join(sorted(notes - {""})))


def _sorting(answer: Answer, truth: ImageSet) -> dict[str, float]:
    if answer.label is None:
        return answer.remarks or {}
    return {**judge_sorting(answer.label, answer.angle_rad, truth), **(answer.remarks or {})}


def _chunks(cell: Cell, store: SignalStore, subject: Subject, seed: int) -> Iterator[list[ImageSet]]:
    """A structure's sets, as many at a time as memory should hold."""
    step = max(1, _IMAGES_AT_ONCE // cell.sheet.size)
    sets: list[ImageSet] = []
    for signals in store.signals(subject):
        sets.append(with_noise(signals, cell, seed))
        if len(sets) == step:
            yield sets
            sets = []
    if sets:
        yield sets


def _null(
    method: Method, cell: Cell, store: SignalStore, subjects: Sequence[Subject], request: DenoiseRequest
) -> float:
    """Mean power of what the method makes of noise alone, sets of the cell's size and optics."""
    powers: list[float] = []
    for subject in subjects[:_NULL_STRUCTURES]:
        sets = next(_chunks(cell, store, subject, request.seed))[: max(1, _NULL_IMAGES // cell.sheet.size)]
        empty = [
            one.emptied(cell.noise, seed_of("null", request.seed, subject.entry, cell.name, one.number)) for one in sets
        ]
        powers += [output_power(answer.images) for answer in method.measure(empty, cell.sheet.setting)]
    return float(np.mean(powers))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(float(np.mean(known))) if known else None
