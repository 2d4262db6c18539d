"""The protocol `null`: first maps of stacks that show nothing, and of the particles they were made from.

Every map comes with the job's own doubt, or without: by how much the particles are likelier under it than under noise.
A map of images that show nothing and is not doubted would be taken for a molecule. The same stacks of particles go the
same way, since a method that doubts everything would accept nothing either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch
from scipy.stats import binomtest

from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.core.progress import Progress, silent
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet
from clarice.physics.null_particles import phase_randomised, pure_noise
from clarice.physics.simulate import FILL, SimulationSettings, simulate
from clarice.pipeline.first_map import find_first_map
from clarice.pipeline.first_map_settings import FirstMapSettings, Method
from clarice.pipeline.prepare import prepare

NAME = "null"
VERSION = 2
PARTICLES, NOISE, PHASES = "particles", "noise", "phases"
KINDS: dict[str, Callable[[NoisySet, int], NoisySet]] = {
    NOISE: pure_noise,
    PHASES: phase_randomised,
    PARTICLES: lambda noisy, _: noisy,
}
COLUMNS = (
    Column("seed", "seed"),
    Column("images show", "kind"),
    Column("method", "method"),
    Column("map", "verdict"),
    Column("log-likelihood over noise, an image", "log_likelihood", "{:.2f}"),
    Column("time, s", "seconds", "{:.0f}"),
    Column("load before", "load_before", "{:.1f}"),
    Column("note", "note"),
)
KEYS = ("seed", "kind", "method")
ACCEPTED, DOUBTED = "accepted", "doubted"
# Added to a stack's seed where what it shows is drawn: phases and noise by which a map is judged must not be the same.
_STACKS = 1_000_003


@dataclass(frozen=True)
class NullRequest:
    """A call of the protocol: what images show, ways to a first map, seeds, size of the stacks; results go to `out`."""

    kinds: Sequence[str]
    methods: Sequence[Method]
    seeds: Sequence[int]
    particles: int
    box: int
    snr: float
    out: Path
    resume: bool = False


def images_of(kind: str, seed: int, request: NullRequest) -> NoisySet:
    """A stack of a procedural molecule, prepared as a job prepares it, or what takes its place."""
    settings = SimulationSettings(request.particles, request.box, seed=seed, snr=request.snr)
    simulated = simulate(make_molecule(seed), settings)
    return KINDS[kind](prepare(simulated.particles, sign=1).noisy_set, _STACKS + seed)


def measure_row(kind: str, method: Method, seed: int, request: NullRequest) -> Row:
    """One way to a first map on one stack."""
    noisy = images_of(kind, seed, request)
    settings = FirstMapSettings(FILL * noisy.box, method=method, seed=seed)
    started = time.perf_counter()
    found = find_first_map(noisy, settings)
    return {
        "verdict": ACCEPTED if found.warning is None else DOUBTED,
        "log_likelihood": found.record.get("log_likelihood"),
        "seconds": round(time.perf_counter() - started, 1),
    }


def nulls(request: NullRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept."""
    cells = list(product(request.seeds, request.kinds, request.methods))

    def tasks() -> Iterator[Task]:
        for done, (seed, kind, method) in enumerate(cells):
            progress("making first maps", done, len(cells))
            key: Row = {"seed": seed, "kind": kind, "method": method.value}
            yield Task((key,), partial(_rows, kind, method, seed, request))

    settings = {
        "particles": request.particles,
        "box": request.box,
        "SNR of the particles": request.snr,
        "molecules": "procedural, one for each seed",
        "CTF": "model of EMPIAR-10028",
        "threads": torch.get_num_threads(),
    }
    results = Results(NAME, VERSION, settings, KEYS, COLUMNS)
    results.places = (str(request.out),)
    results.trained_on = "the training structures, as the card of each network's weights says"
    if request.resume:
        results.take_up(request.out)
    return measure_rows(results, tasks(), request.out, summarise=summarise, shown=shown)


def _rows(kind: str, method: Method, seed: int, request: NullRequest) -> list[Row]:
    return [measure_row(kind, method, seed, request)]


def summarise(results: Results) -> None:
    """For each kind of images and method how many maps were accepted."""
    results.summary = {}
    done = [row for row in results.rows if not row.get("failed")]
    for kind, method in dict.fromkeys((row["kind"], row["method"]) for row in done):
        verdicts = [row["verdict"] == ACCEPTED for row in done if (row["kind"], row["method"]) == (kind, method)]
        low, high = proportion_interval(sum(verdicts), len(verdicts))
        results.summary[f"{kind}, {method}"] = (
            f"{sum(verdicts)} of {len(verdicts)} maps accepted (95 %: {low:.1%} to {high:.1%})"
        )


def proportion_interval(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a proportion (Clopper and Pearson 1934)."""
    found = binomtest(successes, trials).proportion_ci()
    return float(found.low), float(found.high)
