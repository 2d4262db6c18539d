"""Ab initio by projection matching: marginalised EM from random starts with annealed resolution.

Each start begins with random orientations, whose map is a near-round blob, and climbs in resolution over small random
batches, which lets it leave wrong structures early on (stochastic EM). The start whose map explains held-out particles
best is kept and finished on batches from the whole set. Several maps may climb together (`abinitio.climb`).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.climb import Climb, Phase, Settings
from clarice.abinitio.ring_source import RingSource
from clarice.core.errors import InputError
from clarice.core.parallel import ordered_map
from clarice.core.progress import Progress, silent

logger = logging.getLogger(__name__)

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
class Start:
    """One random start: its seed, and the mean log-likelihood ratio (against noise) of particles held out.

    Starts that did not survive the first phase were scored at its lower resolution, so theirs compare apart.
    """

    seed: int
    log_likelihood: float
    survived: bool


@dataclass(frozen=True)
class InitialMap:
    """The chosen start's map (L, L, L) in the particles' box, or maps; every start, and the finest ring matched.

    `memberships` (n, K, or K + 1 with junk) say how probably each particle shows each map.
    """

    volumes: tuple[Tensor, ...]
    memberships: Tensor
    starts: tuple[Start, ...]
    chosen: int
    radius_px: float

    @property
    def volume(self) -> Tensor:
        """The map, the first of several."""
        return self.volumes[0]

    @property
    def is_likelier_than_noise(self) -> bool:
        """Whether the chosen start explains particles it has not seen; no map made of pure noise does."""
        return self.starts[self.chosen].log_likelihood > LEAST_HELD_OUT_GAIN

    @property
    def doubt(self) -> str | None:
        """Why not to trust it, if so."""
        return None if self.is_likelier_than_noise else NO_LIKELIER_THAN_NOISE

    def record(self) -> dict[str, Any]:
        """The starts and which was chosen, in JSON's types."""
        return {"starts": [vars(start) for start in self.starts], "chosen": self.chosen}


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
    climbs = [
        Climb(particles, settings, training, settings.seed * 1000 + i, SHAPE, FINISH) for i in range(settings.starts)
    ]
    scores = list(ordered_map(lambda climb: climb.run(SHAPE, counter.step).score(held_out, SHAPE), climbs))
    leading = sorted(np.argsort(scores)[::-1][:survivors].tolist())
    details = ordered_map(lambda index: climbs[index].run(DETAIL, counter.step).score(held_out, DETAIL), leading)
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
    climb.run(FINISH, counter.step)
    every = np.arange(len(particles))
    memberships = climb.memberships(every, FINISH) if settings.sorts else torch.ones((len(particles), 1))
    return InitialMap(tuple(climb.maps()), memberships, starts, chosen, climb.rings(FINISH).radii[-1])


class _Counter:
    """Steps done by all starts together, which may run side by side."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0
        self.lock = threading.Lock()

    def step(self) -> None:
        with self.lock:
            self.done += 1
            self.progress("ab initio", self.done, self.total)
