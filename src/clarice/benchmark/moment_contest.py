"""The protocol `moments`: structures fitted to exact moments, and to those of particles of which few are seen alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.moment_fit import BEYOND_RINGS, FitSettings, fit_moments, model_for
from clarice.abinitio.moment_model import MomentModel, MomentSet, MomentTargets, ViewNodes
from clarice.abinitio.moments import Moments, moments_of_particles
from clarice.benchmark.main_job import Request
from clarice.benchmark.moment_retrieval import (
    DENOISED_TOGETHER,
    RetrievalInput,
    fit_of,
    learnable,
    learned,
    retrieved,
)
from clarice.benchmark.protocol import MAP_COLUMNS, laid_on
from clarice.benchmark.records import Column, Results, Row, with_interval
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import Subject, defocus_table, load_subject, structures_folder
from clarice.core.parallel import worker_count
from clarice.core.particles import Poses
from clarice.core.progress import Progress, silent
from clarice.geometry.harmonics import sphere_coefficients
from clarice.io.mrc import write_mrc
from clarice.metrics.map_files import read_cube
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.potential import atoms_to_volume
from clarice.physics.simulate import FILL, SimulatedSet, SimulationSettings, default_pixel_size, simulate
from clarice.physics.view_mixture import ViewMixture

NAME = "moments"
VERSION = 4
COLUMNS = (
    Column("entry", "entry"),
    Column("seed", "seed"),
    Column("case", "case"),
    Column("method", "method"),
    Column("particles", "particles"),
    Column("SNR", "snr"),
    *MAP_COLUMNS,
    Column("correlation", "correlation", "{:.3f}"),
    Column("misfit an element", "misfit", "{:.2f}"),
    Column("moments, s", "moment_seconds", "{:.1f}"),
    Column("fit, s", "fit_seconds", "{:.0f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
KEYS = ("entry", "seed", "case", "method")
FIT, RETRIEVAL, LEARNED = "fit", "retrieval", "learned"
COMPONENTS, CONCENTRATION = 10, 6.0
# A structure is right when its FSC with the truth holds 0.5 to this many pixels: rings end at 7.1.
RIGHT_WITHIN_PX = 8.0
# Particles that are simulated, and forgotten, at a time.
SHARD = 5000
# The highest ring, as a share of the box: 7.1 pixels.
MAX_RADIUS = 9 / 64
# Degrees beyond the model's own that exact moments have, of the structure and of the density of views.
_FINER, _DENSITY_DEGREE = 4, 24


@dataclass(frozen=True)
class Case:
    """What moments are taken of: `particles` at an SNR with CTF in so many defocus groups, or the structure itself.

    Views come from `everywhere` alike, or from a few components; `third` moments are looked at, or are not.
    """

    particles: int | None
    snr: float | None = None
    defocus_groups: int = 50
    everywhere: bool = False
    third: bool = True

    def methods(self, box: int) -> tuple[str, ...]:
        """Retrieval needs views from everywhere, and a network the rings that it knows."""
        if not self.everywhere:
            return (FIT,)
        radii = tuple(float(radius) for radius in range(1, round(MAX_RADIUS * box) + 1))
        return (FIT, RETRIEVAL, LEARNED) if learnable(box, radii) else (FIT, RETRIEVAL)

    def views(self, seed: int) -> ViewMixture:
        """The density of views."""
        return ViewMixture.everywhere() if self.everywhere else ViewMixture.drawn(COMPONENTS, CONCENTRATION, seed)


CASES = {
    "exact": Case(None),
    "10,000": Case(10_000, 0.05),
    "100,000": Case(100_000, 1 / 16, 100),
    "exact everywhere": Case(None, everywhere=True),
    "exact everywhere, two": Case(None, everywhere=True, third=False),
    "10,000 everywhere": Case(10_000, 0.05, everywhere=True),
}


def word_of(case: str) -> str:
    """How a case is called on the command line, and in the names of folders."""
    return case.replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class MomentRequest:
    """A call of the protocol: common settings, which CASES, and how the fit is made."""

    common: Request
    cases: Sequence[str]
    starts: int


def measure_rows_of(request: MomentRequest, entry: str, seed: int, name: str, progress: Progress = silent) -> list[Row]:
    """One case of one structure: its moments, and by each method the map against the truth."""
    box, case = request.common.settings.box, CASES[name]
    subject = load_subject(entry, structures_folder(request.common.data))
    views = case.views(seed)
    model = model_for(box, FILL * box, round(MAX_RADIUS * box), third=case.third)
    pixel = default_pixel_size(subject.atoms, box)
    truth = atoms_to_volume(subject.atoms.centred(), box, pixel)
    started = time.perf_counter()
    given: RetrievalInput | None = None
    if case.particles is None:
        targets = MomentTargets.met_within(model.rings, exact_moments(truth, model, views), 0.004)
        if case.everywhere:
            given = RetrievalInput.exact(truth, model, seed)
    else:
        measured, shown = measured_moments(request, subject, views, seed, case, model, progress)
        targets = MomentTargets.of(measured)
        if case.everywhere:
            given = RetrievalInput.measured(measured, shown, model)
    taken = time.perf_counter()
    fit = fit_moments(targets, model, FitSettings(starts=request.starts, seed=seed), progress)
    place = f"{entry}_seed{seed}_{word_of(name)}"
    common: Row = {
        "particles": case.particles,
        "snr": None if case.snr is None else f"{case.snr:g}",
        "moment_seconds": round(taken - started, 1),
    }
    rows = [{
        **common,
        **_judged(request, f"{place}_{FIT}", fit.volume, truth, pixel),
        "misfit": round(fit.misfit / targets.elements, 4),
        "misfit_by_start": [round(each / targets.elements, 4) for each in fit.by_start],
        "fit_seconds": round(time.perf_counter() - taken, 1),
    }]  # fmt: skip
    if given is not None:
        started = time.perf_counter()
        found = retrieved(given, model, seed, progress)
        rows.append({
            **common,
            **_judged(request, f"{place}_{RETRIEVAL}", found.volume, truth, pixel),
            "fit_seconds": round(time.perf_counter() - started, 1),
            "residual_by_start": [round(each, 5) for each in found.residual],
        })  # fmt: skip
    if given is not None and LEARNED in case.methods(box):
        started = time.perf_counter()
        drawn = learned(targets, given, box, seed, progress)
        rows.append({
            **common,
            **_judged(request, f"{place}_{LEARNED}", drawn.volume, truth, pixel),
            **fit_of(drawn, targets),
            "fit_seconds": round(time.perf_counter() - started, 1),
        })  # fmt: skip
    return rows


def _judged(request: MomentRequest, name: str, volume: Tensor, truth: Tensor, pixel: float) -> Row:
    """Scores and verdict. Both maps are left in the work folder, for whoever wants to look at them."""
    folder = request.common.work / NAME / name
    folder.mkdir(parents=True, exist_ok=True)
    cubes = []
    for what, values in (("fitted", volume), ("truth", truth)):
        write_mrc(folder / f"{what}.mrc", values.numpy(), pixel, is_volume=True)
        cubes.append(read_cube(folder / f"{what}.mrc"))
    scores = laid_on(cubes[0], cubes[1]).scores
    right = scores.fsc_05_px <= RIGHT_WITHIN_PX
    return {**vars(scores), "right": right, "verdict": "right" if right else "wrong"}


def exact_moments(volume: Tensor, model: MomentModel, views: ViewMixture) -> MomentSet:
    """Moments of a volume (L, L, L) seen with the density of `views`, by a quadrature finer than the model's."""
    rings, degree = model.rings, model.ball.degree + _FINER
    nodes = ViewNodes.of(degree, rings.orders, _DENSITY_DEGREE)
    here, opposite = (torch.from_numpy(views.density(side * nodes.directions)) * nodes.area for side in (1.0, -1.0))
    spheres = sphere_coefficients(volume, rings.radii, degree)
    return nodes.moments(spheres, here, opposite, rings, third=rings.third_rings > 0)


def measured_moments(
    request: MomentRequest,
    subject: Subject,
    views: ViewMixture,
    seed: int,
    case: Case,
    model: MomentModel,
    progress: Progress = silent,
) -> tuple[Moments, NoisySet]:
    """Moments of simulated particles, shard after shard, each with defocus groups and noise of its own; and some of
    these particles.

    Shards of one SNR differ a little in scale, which counts as part of their transfer function.
    """
    if case.particles is None or case.snr is None:
        raise ValueError("exact moments are not measured")
    total: Moments | None = None
    scale = 0.0
    for shard in range(-(-case.particles // SHARD)):
        made = _shard(request, subject, views, seed, case, shard, min(SHARD, case.particles - shard * SHARD))
        if total is None:
            scale = made.scale
            some = white_set(made.particles.subset(np.arange(min(DENOISED_TOGETHER, len(made.particles)))))
        part = _moments_of(made, made.scale / scale, model)
        total = part if total is None else total + part
        progress("simulating and taking moments", total.count, case.particles)
    assert total is not None
    return total, some


def _shard(
    request: MomentRequest, subject: Subject, views: ViewMixture, seed: int, case: Case, shard: int, count: int
) -> SimulatedSet:
    """The first `count` particles of a shard."""
    assert case.particles is not None
    assert case.snr is not None
    settings = SimulationSettings(
        count,
        request.common.settings.box,
        seed=1000 * seed + shard,
        snr=case.snr,
        max_shift_px=0.0,
        defocus_groups=max(1, case.defocus_groups // -(-case.particles // SHARD)),
        astigmatic=False,
        ctf_table=defocus_table(request.common.data),
    )
    rotations = views.rotations(count, np.random.default_rng([seed, case.particles, shard]))
    return simulate(subject.atoms, settings, poses=Poses(rotations, np.zeros((count, 2))))


def _moments_of(made: SimulatedSet, gain: float, model: MomentModel) -> Moments:
    noisy = white_set(made.particles)
    return moments_of_particles(replace(noisy, whitening=noisy.whitening * gain), model.rings)


def moment_contest(request: MomentRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept."""
    common = request.common
    folder = structures_folder(common.data)
    symmetric = [entry for entry in common.entries if load_subject(entry, folder).point_group.name != "C1"]

    def tasks() -> Iterator[Task]:
        for (entry, seed), name in product(common.stacks(), request.cases):
            if entry not in symmetric or CASES[name].everywhere:
                keys: list[Row] = [
                    {"entry": entry, "seed": seed, "case": name, "method": method}
                    for method in CASES[name].methods(common.settings.box)
                ]
                yield Task(tuple(keys), partial(measure_rows_of, request, entry, seed, name, progress))

    results = common.results(
        NAME,
        VERSION,
        KEYS,
        COLUMNS,
        # Each case has its own, and nothing is shifted.
        without=("particles", "snr", "max_shift_px", "defocus_groups"),
        threads=worker_count(),
        starts=request.starts,
        views=f"{COMPONENTS} von Mises–Fisher components, κ = {CONCENTRATION:g}",
        max_radius=f"{MAX_RADIUS:.3f} × box, functions up to {BEYOND_RINGS:g} beyond",
    )
    results.trained_on = "the training structures, for learned, as its weights' card says; fit and retrieval on nothing"
    if symmetric:
        some = any(CASES[name].everywhere for name in request.cases)
        where = "looked at from everywhere alone" if some else "left out"
        results.notes.append(
            f"{where}, since the other cases are for structures without symmetry: {', '.join(symmetric)}"
        )
    return measure_rows(results, tasks(), common.out, summarise=summarise, shown=shown)


def summarise(results: Results) -> None:
    """For each case and method the mean resolution, and how many structures reach 8 pixels."""
    results.summary = {}
    for case, method in dict.fromkeys((row["case"], row["method"]) for row in results.rows):
        rows = [row for row in results.rows if (row["case"], row["method"]) == (case, method)]
        rows = [row for row in rows if not row.get("failed")]
        mean = with_interval(rows, "fsc_05_px", "{:.2f}")
        if mean is not None:
            right = sum(row["right"] for row in rows)
            within = f"{right} of {len(rows)} within {RIGHT_WITHIN_PX:g} px"
            results.summary[f"{case}, {method}"] = f"FSC 0.5 at {mean} px; {within}"
