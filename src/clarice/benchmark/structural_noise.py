"""The protocol `structural-noise`: every denoiser under each kind of structural noise, and the maps it leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clarice.benchmark.denoise_methods import Method
from clarice.benchmark.denoise_pictures import keep_sample, picture, samples_of
from clarice.benchmark.denoise_scores import Answer, fitted_to, over_sets, score
from clarice.benchmark.denoise_sets import MAX_SHIFT_PX, Images, ImageSet, seed_of
from clarice.benchmark.protocol import FINEST_PIXEL_ANGSTROM
from clarice.benchmark.records import Results, Row, bootstrap_interval, rounded
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structural_cells import CELL_KEYS, StructuralCell
from clarice.benchmark.structural_maps import map_figures, raw_figures
from clarice.benchmark.structural_table import COLUMNS, summarise
from clarice.benchmark.structures import Subject, defocus_table
from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.io.atomic import writing
from clarice.physics.simulate import SimulationSettings, default_pixel_size, simulate
from clarice.physics.turned_views import turned_views

NAME = "structural-noise"
VERSION = 1
RAW = "raw"
PARTICLES = 1000
_SETTING = "all-different"


@dataclass(frozen=True)
class StructuralRequest:
    """What a call is to do: a stack of each subject in each of `cells`, for each of `methods`, and maps if `maps`."""

    subjects: Sequence[Subject]
    collection: str
    cells: Sequence[StructuralCell]
    methods: Sequence[Method]
    out: Path
    work: Path
    data: Path | None = None
    particles: int = PARTICLES
    seed: int = 1
    box: int = 64
    threads: int = 2
    maps: bool = True
    resume: bool = False

    def __post_init__(self) -> None:
        if self.particles < 16:
            raise UsageError(f"--particles {self.particles} must be at least 16")
        if self.box < 16:
            raise UsageError(f"--box {self.box} must be at least 16 pixels")
        if not self.shown_subjects:
            raise UsageError(f"no structure's pixel is {FINEST_PIXEL_ANGSTROM} Å or more: name others by --entries")

    @property
    def shown_subjects(self) -> list[Subject]:
        """Those whose pixel is coarse enough for the CTF."""
        return [s for s in self.subjects if default_pixel_size(s.atoms, self.box) >= FINEST_PIXEL_ANGSTROM]

    def results(self) -> Results:
        """Results to fill: empty, or those of the call that is resumed. Cells and methods may differ between calls."""
        subjects = self.shown_subjects
        settings: dict[str, Any] = {
            "structures": f"{len(subjects)} of {self.collection}: " + " ".join(subject.entry for subject in subjects),
            "particles": self.particles,
            "seed": self.seed,
            "box": self.box,
            "pixel_size": "largest diameter / (0.65 × box)",
            "shifts_px": f"±{MAX_SHIFT_PX:g}",
            "defocus": "EMPIAR-10028 table" if defocus_table(self.data) else "model of EMPIAR-10028",
            "maps": self.maps,
            "threads": self.threads,
        }
        results = Results(NAME, VERSION, settings, (*CELL_KEYS, "method"), COLUMNS)
        results.places = tuple(str(path) for path in (self.work, self.out, self.data) if path is not None)
        results.trained_on = "the training structures, as each weights' card says; filters are not trained"
        if self.resume:
            results.take_up(self.out)
        if self.data is None:
            results.notes.append("run on procedural molecules, which stand in for the protocol's PDB entries")
        return results


@dataclass
class _Stacks:
    """The stacks of one cell, made when first asked for; those of the cell before are let go."""

    request: StructuralRequest
    cell: StructuralCell | None = None
    made: dict[str, tuple[ImageSet, Images]] = field(default_factory=dict)

    def of(self, cell: StructuralCell, subject: Subject) -> tuple[ImageSet, Images]:
        """A structure's images, and the map whose projections they are."""
        if cell != self.cell:
            self.cell, self.made = cell, {}
        if subject.entry not in self.made:
            self.made[subject.entry] = self._simulated(cell, subject)
        return self.made[subject.entry]

    def _simulated(self, cell: StructuralCell, subject: Subject) -> tuple[ImageSet, Images]:
        request = self.request
        # The same views, shifts, defoci and random noise whatever the structural noise.
        seed = seed_of(request.seed, subject.entry, cell.snr)
        shown = turned_views(request.particles, 0, MAX_SHIFT_PX, torch.Generator().manual_seed(seed))
        settings = SimulationSettings(
            request.particles,
            request.box,
            seed,
            snr=cell.snr,
            max_shift_px=MAX_SHIFT_PX,
            ctf_table=defocus_table(request.data),
            structural=cell.noise,
        )
        made = simulate(subject.atoms, settings, poses=shown.poses)
        particles = made.particles
        pixel = particles.pixel_size_angstrom
        return ImageSet(subject, 0, made.images, made.clean, shown, particles.optics, pixel), made.volume


def raw_images() -> Method:
    """The particles as they are, scaled to the truth: the control of every table."""

    def measure(sets: Sequence[ImageSet], setting: str) -> list[Answer]:  # noqa: ARG001
        return [Answer(fitted_to(one.noisy, one), 0.0, note="scaled to the truth") for one in sets]

    return Method(RAW, measure, with_null=False)


def structural_noise(
    request: StructuralRequest, *, shown: Callable[[Row], None], progress: Progress = silent
) -> Results:
    """Runs the protocol, `shown` and saved row by row, and draws its pictures; finished rows of a resumed call stay."""
    torch.set_num_threads(request.threads)
    results = request.results()
    measure_rows(results, _tasks(request, progress), request.out, summarise=summarise, shown=shown)
    _draw(results, request)
    return results


def _tasks(request: StructuralRequest, progress: Progress) -> Iterator[Task]:
    stacks = _Stacks(request)
    for cell in request.cells:
        for method in request.methods:
            key: Row = {**cell.key(), "method": method.name}
            yield Task((key,), partial(_rows, method, cell, stacks, progress))


def _rows(method: Method, cell: StructuralCell, stacks: _Stacks, progress: Progress) -> list[Row]:
    return [measure(method, cell, stacks, progress)]


def measure(method: Method, cell: StructuralCell, stacks: _Stacks, progress: Progress = silent) -> Row:
    """The row of one method in one cell: means over structures, and each structure's own figures."""
    request, by_entry = stacks.request, dict[str, dict[str, float]]()
    notes: set[str] = set()
    subjects = request.shown_subjects
    for number, subject in enumerate(subjects, start=1):
        images, volume = stacks.of(cell, subject)
        answer = method.measure([images], _SETTING)[0]
        keep_sample(request.work, cell, method.name, answer.images, images)
        figures = {**over_sets([score(answer, images)]), **(answer.remarks or {})}
        figures["ms_per_image"] = 1000 * answer.seconds / len(images)
        if request.maps:
            maps = raw_figures if method.name == RAW else partial(map_figures, denoised=answer.images)
            figures |= maps(images, volume=volume, seed=request.seed)
        by_entry[subject.entry] = {key: rounded(value) for key, value in figures.items()}
        notes |= {answer.note} - {""}
        progress(f"{method.name}, {cell.name}", number, len(subjects))
    means = {
        key: rounded(np.mean([one[key] for one in by_entry.values() if key in one]))
        for key in dict.fromkeys(key for one in by_entry.values() for key in one)
    }
    row: Row = {
        **means,
        "relative_mse_interval": _interval(by_entry, "relative_mse"),
        "structures": len(by_entry),
        "by_entry": by_entry,
        **method.about,
    }
    return {**row, "note": "; ".join(sorted(notes))} if notes else row


def _interval(by_entry: dict[str, dict[str, float]], key: str) -> list[float] | None:
    drawn = bootstrap_interval({e: [one[key]] for e, one in by_entry.items()}, lambda values: float(values.mean()))
    return None if drawn is None else [round(value, 5) for value in drawn]


def _draw(results: Results, request: StructuralRequest) -> None:
    """One picture: a row for each cell, of its first structure, with the particle raw, denoised and as it is."""
    finished = [row for row in results.rows if not row.get("failed")]
    cells = dict.fromkeys(StructuralCell(*(row[key] for key in CELL_KEYS)) for row in finished)
    entries = [subject.entry for subject in request.shown_subjects]
    rows = [(cell, found[0]) for cell in cells if (found := samples_of(cell, entries, request.work))]
    if rows:
        methods = [name for name in dict.fromkeys(row["method"] for row in finished) if name != RAW]
        with writing(request.out / f"{NAME}.png") as temporary:
            picture(rows, (RAW, *methods, "truth"), request.work).save(temporary, format="PNG", optimize=True)
