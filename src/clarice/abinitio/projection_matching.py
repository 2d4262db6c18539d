"""Ab initio by projection matching: marginalised EM from random starts with annealed resolution.

Each start begins with random orientations, whose map is a near-round blob, and climbs in resolution over small random
batches, which lets it leave wrong structures early on (stochastic EM). The start whose map explains held-out particles
best is kept and finished on batches from the whole set.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.pose_search import wide_shifts
from clarice.abinitio.reconstruct import SliceSums, solve_map, spectral_prior, spherical_support
from clarice.abinitio.ring_source import RingSource, Rows
from clarice.abinitio.views import ViewGrid
from clarice.core.errors import InputError
from clarice.core.parallel import ordered_map
from clarice.core.progress import Progress, silent
from clarice.geometry import so3
from clarice.geometry.angular import fast_dtype
from clarice.geometry.expectation import Expectation, expectation
from clarice.geometry.fourier import fourier_resize
from clarice.geometry.polar import FourierRings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """Some iterations at one resolution. `radius` is in cycles per particle diameter."""

    radius: float
    iterations: int
    batch: int
    spacing_deg: float
    temperature: float


# Radii in cycles per diameter: 4 is where the shape first breaks its round symmetry.
SHAPE, DETAIL = Phase(4.0, 10, 300, 15.0, 2.0), Phase(5.3, 5, 500, 12.0, 1.0)
FINISH = Phase(6.5, 2, 1200, 10.0, 1.0)
# Share of the starts that go on from shape to detail.
SURVIVORS = 0.5
FEWEST_PARTICLES = 5
# What a particle must gain in log-likelihood under a map; maps of pure noise fade away and gain 0.00.
LEAST_HELD_OUT_GAIN = 0.05
NO_LIKELIER_THAN_NOISE = (
    "particles held out are no likelier under the first map than under pure noise: "
    "the map is not to be trusted, whatever its half maps agree on"
)


@dataclass(frozen=True)
class Settings:
    """What the user decides: particle diameter, random starts, point group, largest shift, seed."""

    diameter_px: float
    starts: int = 4
    symmetry: str = "C1"
    max_shift_px: float = 4.0
    held_out: int = 400
    seed: int = 0


@dataclass(frozen=True)
class Start:
    """One random start: its seed, and the mean log-likelihood ratio (against noise) of particles held out.

    Starts that did not survive the first phase were scored at its lower resolution, so theirs compare apart.
    """

    seed: int
    log_likelihood: float
    survived: bool


@dataclass(frozen=True)
class InitialMap:
    """The chosen map (L, L, L) in the particles' box, every start, and the finest ring it was matched on."""

    volume: Tensor
    starts: tuple[Start, ...]
    chosen: int
    radius_px: float

    @property
    def is_likelier_than_noise(self) -> bool:
        """Whether the chosen start explains particles it has not seen; no map made of pure noise does."""
        return self.starts[self.chosen].log_likelihood > LEAST_HELD_OUT_GAIN


def initial_map(particles: RingSource, settings: Settings, progress: Progress = silent) -> InitialMap:
    """The best of several random starts, finished on batches from the whole set.

    Raises InputError for fewer than FEWEST_PARTICLES: some are held out to choose between the starts.
    """
    if len(particles) < FEWEST_PARTICLES:
        raise InputError(f"{len(particles)} particles are too few for a first map: {FEWEST_PARTICLES} are the least")
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(particles), generator=generator).numpy()
    held_out, training = np.split(order, [min(settings.held_out, len(order) // 5)])
    survivors = max(1, round(settings.starts * SURVIVORS))
    steps = settings.starts * SHAPE.iterations + survivors * DETAIL.iterations + FINISH.iterations
    counter = _Counter(progress, steps)
    climbs = [_Climb(particles, settings, training, settings.seed * 1000 + i) for i in range(settings.starts)]
    scores = list(ordered_map(lambda climb: climb.run(SHAPE, counter).score(held_out, SHAPE), climbs))
    leading = sorted(np.argsort(scores)[::-1][:survivors].tolist())
    details = ordered_map(lambda index: climbs[index].run(DETAIL, counter).score(held_out, DETAIL), leading)
    for index, score in zip(leading, details, strict=True):
        scores[index] = score
    chosen = max(leading, key=lambda index: scores[index])
    starts = tuple(
        Start(climb.seed, score, index in leading)
        for index, (climb, score) in enumerate(zip(climbs, scores, strict=True))
    )
    logger.info("random starts: %s; chosen: %d", starts, chosen)
    climb = climbs[chosen]
    climb.training = order
    climb.run(FINISH, counter)
    # The climb works in a Fourier-cropped box: the same spectrum, so grey values shrink as voxels do.
    volume = fourier_resize(climb.volume, particles.box, 3) * (climb.volume_box / particles.box) ** 3
    return InitialMap(volume, starts, chosen, climb.rings(FINISH).radii[-1])


class _Counter:
    """Steps done by all starts together, which may run side by side."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0
        self.lock = threading.Lock()

    def step(self) -> None:
        with self.lock:
            self.done += 1
            self.progress("ab initio", self.done, self.total)


class _Climb:
    """One start: its map on its way up."""

    def __init__(self, particles: RingSource, settings: Settings, training: Rows, seed: int) -> None:
        self.particles, self.settings, self.training, self.seed = particles, settings, training, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.symmetry = so3.symmetry_rotations(settings.symmetry)
        finest = max(self.rings(phase).radii[-1] for phase in (SHAPE, DETAIL, FINISH))
        self.volume_box = min(particles.box, 2 * int(np.ceil(finest + 3)))
        diameter = settings.diameter_px * self.volume_box / particles.box
        self.support = spherical_support(self.volume_box, diameter)
        self.volume = self._random_blob(SHAPE)

    def rings(self, phase: Phase) -> FourierRings:
        """The rings of a phase, in the particles' box."""
        radius = phase.radius * self.particles.box / self.settings.diameter_px
        box = self.particles.box
        return FourierRings.matching(box, min(radius, box / 2 - 1), self.settings.diameter_px)

    def _random_blob(self, phase: Phase) -> Tensor:
        rows = self._batch(phase)
        rings = self.rings(phase)
        stack = self.particles.rings(rings, rows)
        grid = ViewGrid(so3.random_rotations(len(rows), self.generator), rings, self.volume_box)
        weights = rings.area_weights()[:, None]
        values = (stack.filtered * weights).reshape(-1)
        densities = (stack.power[..., None] * weights).expand(-1, -1, rings.n_angles // 2).reshape(-1)
        sums = SliceSums.of(grid.frequencies(), values, densities, self.volume_box)
        flat = torch.full((self.volume_box // 2 + 1,), 1e6)
        return solve_map(sums, flat, self.support)

    def _batch(self, phase: Phase) -> Rows:
        chosen = torch.randperm(len(self.training), generator=self.generator)[: phase.batch]
        return np.sort(self.training[chosen.numpy()])

    def expect(self, rows: Rows, phase: Phase) -> tuple[ViewGrid, Expectation]:
        """Expectation step of `rows` on a randomly turned grid, so that no grid direction is favoured for long."""
        rings = self.rings(phase)
        turn = so3.random_rotations(1, self.generator)[0]
        grid = ViewGrid.spread(phase.spacing_deg, rings, self.volume_box, turn, self.symmetry, mirrored=True)
        stack = self.particles.rings(rings, rows)
        result = expectation(
            stack,
            grid.references(self.volume),
            wide_shifts(rings, self.settings.max_shift_px),
            mirror=True,
            temperature=phase.temperature,
            dtype=fast_dtype(),
        )
        return grid, result

    def run(self, phase: Phase, counter: _Counter) -> _Climb:
        """Takes the map through the iterations of one phase."""
        for _ in range(phase.iterations):
            grid, result = self.expect(self._batch(phase), phase)
            sums = grid.sums(result.numerator, result.denominator, self.symmetry)
            prior = spectral_prior(self.volume)
            prior[int(grid.rings.radii[-1]) + 2 :] = 0
            self.volume = solve_map(sums, prior, self.support, self.volume, iterations=8)
            counter.step()
        return self

    def score(self, rows: Rows, phase: Phase) -> float:
        """Mean log-likelihood ratio (against pure noise) of particles the map has not seen."""
        grid, result = self.expect(rows, phase)
        # The evidence adds up over views and their mirrors, of which each is as likely beforehand.
        return float(result.log_evidence.mean()) - phase.temperature * math.log(2 * len(grid))
