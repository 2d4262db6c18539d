"""The protocol `moments`: structures fitted to exact moments, and to those of particles of which few are seen alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from torch import Tensor

from clarice.abinitio.moment_fit import BEYOND_RINGS, FitSettings, fit_moments, model_for
from clarice.abinitio.moment_model import MomentModel, MomentTargets
from clarice.benchmark.main_job import Request
from clarice.benchmark.moment_particles import (
    CASES,
    COMPONENTS,
    CONCENTRATION,
    Case,
    exact_moments,
    measured_moments,
    word_of,
)
from clarice.benchmark.moment_retrieval import RetrievalInput, fit_of, learnable, learned, retrieved
from clarice.benchmark.protocol import MAP_COLUMNS, laid_on
from clarice.benchmark.records import Column, Results, Row, with_interval
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.core.parallel import worker_count
from clarice.core.progress import Progress, silent
from clarice.io.mrc import write_mrc
from clarice.metrics.map_files import read_cube
from clarice.physics.potential import atoms_to_volume
from clarice.physics.simulate import FILL, default_pixel_size

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
FIT, FIT_DENOISED, RETRIEVAL = "fit", "fit, denoised", "retrieval"
LEARNED, LEARNED_DENOISED = "learned", "learned, denoised"
# A structure is right when its FSC with the truth holds 0.5 to this many pixels: rings end at 7.1.
RIGHT_WITHIN_PX = 8.0
# The highest ring, as a share of the box: 7.1 pixels.
MAX_RADIUS = 9 / 64


@dataclass(frozen=True)
class MomentRequest:
    """A call of the protocol: common settings, which CASES, and how the fit is made."""

    common: Request
    cases: Sequence[str]
    starts: int


def methods_of(case: Case, box: int) -> tuple[str, ...]:
    """Retrieval needs views from everywhere, and a network the rings that it knows; particles are raw or denoised."""
    radii = tuple(float(radius) for radius in range(1, round(MAX_RADIUS * box) + 1))
    fits = (FIT,) if case.particles is None else (FIT, FIT_DENOISED)
    if not case.everywhere:
        return fits
    if not learnable(box, radii):
        return (*fits, RETRIEVAL)
    learned_from = (LEARNED,) if case.particles is None else (LEARNED, LEARNED_DENOISED)
    return (*fits, RETRIEVAL, *learned_from)


def measure_rows_of(request: MomentRequest, entry: str, seed: int, name: str, progress: Progress = silent) -> list[Row]:
    """One case of one structure: its moments, and by each method the map against the truth."""
    box, case = request.common.settings.box, CASES[name]
    subject = load_subject(entry, structures_folder(request.common.data))
    model = model_for(box, FILL * box, round(MAX_RADIUS * box), third=case.third)
    pixel = default_pixel_size(subject.atoms, box)
    truth = atoms_to_volume(subject.atoms.centred(), box, pixel)
    methods, given = methods_of(case, box), {}
    started = time.perf_counter()
    if case.particles is None:
        targets = {FIT: MomentTargets.met_within(model.rings, exact_moments(truth, model, case.views(seed)), 0.004)}
        if case.everywhere:
            given[RETRIEVAL] = given[LEARNED] = RetrievalInput.exact(truth, model, seed)
    else:
        found = measured_moments(request.common, subject, seed, case, model, progress)
        targets = {FIT: MomentTargets.of(found.raw), FIT_DENOISED: MomentTargets.of(found.denoised)}
        if case.everywhere:
            given[RETRIEVAL] = given[LEARNED] = RetrievalInput.measured(found.raw, found.shown, model)
            given[LEARNED_DENOISED] = given[LEARNED].with_moments(found.denoised)
    taken = time.perf_counter()
    rows = []
    for method in methods:
        begun = time.perf_counter()
        sought = targets.get(method, targets[FIT])
        volume, more = _map_by(method, sought, given.get(method), model, request.starts, seed, progress)
        rows.append({
            "particles": case.particles,
            "snr": None if case.snr is None else f"{case.snr:g}",
            "moment_seconds": round(taken - started, 1),
            **_judged(request, f"{entry}_seed{seed}_{word_of(name)}_{word_of(method)}", volume, truth, pixel),
            **more,
            "fit_seconds": round(time.perf_counter() - begun, 1),
        })  # fmt: skip
    return rows


def _map_by(
    method: str,
    targets: MomentTargets,
    given: RetrievalInput | None,
    model: MomentModel,
    starts: int,
    seed: int,
    progress: Progress,
) -> tuple[Tensor, Row]:
    """The map (L, L, L) of one method, and what else there is to say of it."""
    if method in (FIT, FIT_DENOISED):
        fit = fit_moments(targets, model, FitSettings(starts=starts, seed=seed), progress)
        by_start = [round(each / targets.elements, 4) for each in fit.by_start]
        return fit.volume, {"misfit": round(fit.misfit / targets.elements, 4), "misfit_by_start": by_start}
    if given is None:
        raise ValueError(f"there is nothing to find a map from by {method}")
    if method == RETRIEVAL:
        found = retrieved(given, model, seed, progress)
        return found.volume, {"residual_by_start": [round(each, 5) for each in found.residual]}
    drawn = learned(targets, given, model.ball.box, seed, progress)
    return drawn.volume, dict(fit_of(drawn, targets))


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
                    for method in methods_of(CASES[name], common.settings.box)
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
    results.trained_on = (
        "the training structures, as the cards of the weights for learned and denoised say; others on nothing"
    )
    if symmetric:
        some = any(CASES[name].everywhere for name in request.cases)
        where = "looked at from everywhere alone" if some else "left out"
        results.notes.append(
            f"{where}, since the other cases are for structures without symmetry: {', '.join(symmetric)}"
        )
    return measure_rows(results, tasks(), common.out, summarise=summarise, shown=shown)


def summarise(results: Results) -> None:
    """For each case and method the resolution, mean and median, and how many structures reach 8 pixels.

    A learned method is also compared, structure by structure, with the better of those that learned nothing.
    """
    results.summary = {}
    for case, method in dict.fromkeys((row["case"], row["method"]) for row in results.rows):
        rows = [row for row in results.rows if (row["case"], row["method"]) == (case, method)]
        rows = [row for row in rows if not row.get("failed")]
        mean = with_interval(rows, "fsc_05_px", "{:.2f}")
        if mean is not None:
            right = sum(row["right"] for row in rows)
            within = f"{right} of {len(rows)} within {RIGHT_WITHIN_PX:g} px"
            median = float(np.median([row["fsc_05_px"] for row in rows]))
            results.summary[f"{case}, {method}"] = f"FSC 0.5 at {mean} px, median {median:.2f}; {within}"
    for case, method in dict.fromkeys((row["case"], row["method"]) for row in results.rows):
        if method.startswith(LEARNED):
            gains = paired_gains(results.rows, case, method)
            told = with_interval(gains, "finer_px", "{:.2f}", " px")
            if told is not None:
                results.summary[f"{case}, {method} finer than the best that learned nothing by"] = told


def paired_gains(rows: Sequence[Row], case: str, method: str) -> list[Row]:
    """By how many pixels `method` is finer than the finest method that learned nothing, on each stack of a case."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if row["case"] == case and not row.get("failed"):
            found.setdefault((row["entry"], row["seed"]), {})[row["method"]] = row["fsc_05_px"]
    gains: list[Row] = []
    for (entry, _), by_method in found.items():
        others = [value for name, value in by_method.items() if name in (FIT, RETRIEVAL)]
        if method in by_method and others:
            gains.append({"entry": entry, "finer_px": min(others) - by_method[method]})
    return gains
