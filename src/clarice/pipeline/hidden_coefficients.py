"""What a network foretells of coefficients that it was not shown: whether it sees anything in a stack at all.

An image of zeros errs by the power of the data. A network that errs no less than that on what was hidden from it has
told nothing of the particles, however clean its images look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from clarice.core.seeds import generator_of
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.trained import TrainedNetwork
from clarice.physics.noisy_set import NoisySet
from clarice.training.finetuning_task import split_set
from clarice.training.split_coefficients import drawn_mask

# Particles that are looked at, in sets of so many at most, in so many sets at least; and the share of coefficients that
# is shown.
_PARTICLES, _LARGEST_SET, _LEAST_SETS, _SHOWN = 512, 64, 8, 0.8
# Gains that chance alone would exceed more often are none.
_CHANCE = 0.025
# The least share of what there is to be foretold: shipped networks foretell 13 % or more at SNR 0.01, and 0.4 % of
# particles in which they see something else.
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Foretold:
    """Mean error less that of zeros on what was hidden, in units of the noise's variance, over so many sets.

    `gain`: by how much the network errs less; `error`: its standard error, by the spread between sets. `power`: what
    was hidden beyond the noise's variance, which is all that could be foretold.
    """

    gain: float
    error: float
    sets: int
    power: float

    @property
    def sees(self) -> bool:
        """Whether it errs less than zeros do, beyond chance and by more than a trifle."""
        return beyond_chance(self.gain, self.error, self.sets) and self.gain > _LEAST_SHARE * self.power

    @property
    def as_record(self) -> dict[str, Any]:
        """The same for a file; the error is None where one set alone cannot tell it."""
        error = self.error if math.isfinite(self.error) else None
        return {"gain": self.gain, "error": error, "sets": self.sets, "power": self.power, "sees": self.sees}


def foretold(noisy: NoisySet, trained: TrainedNetwork, seed: int) -> Foretold:
    """How much better than zeros a network that denoises foretells hidden coefficients of at most 512 particles.

    Sets are of particles as they come, evenly spread: what is hidden has no part in the choice of sources.
    """
    some = noisy.subset(noisy.sample_rows(_PARTICLES))
    placed = PlacedNetwork(trained)
    size = max(1, min(_LARGEST_SET, len(some) // _LEAST_SETS))
    sets = -(-len(some) // size)
    gains: list[Tensor] = []
    hidden: list[Tensor] = []
    for number in range(sets):
        shown = drawn_mask(trained.box, 1, _SHOWN, generator_of(seed, number))[0]
        one = split_set(some, np.arange(number, len(some), sets), trained, shown)
        with placed.precision(), torch.no_grad():
            error = one.to(placed.device).error(placed.network).cpu()
        hidden.append(one.error_of_nothing().double())
        gains.append(hidden[-1] - error.double())
    gain, spread = clustered_mean(gains)
    return Foretold(gain, spread, len(gains), float(torch.cat(hidden).mean()) - 1)


def clustered_mean(clusters: Sequence[Tensor]) -> tuple[float, float]:
    """The mean of all values, and its standard error by the spread between clusters; inf for a single one."""
    mean = torch.cat(list(clusters)).mean()
    sums = torch.stack([(values - mean).sum() for values in clusters])
    count, total = len(clusters), sum(len(values) for values in clusters)
    if count < 2:
        return float(mean), float("inf")
    return float(mean), float((sums.square().sum() * count / (count - 1)).sqrt() / total)


def beyond_chance(gain: float, error: float, clusters: int) -> bool:
    """Whether a mean over clusters is above 0, by Student's t."""
    return clusters > 1 and gain > error * float(student.isf(_CHANCE, clusters - 1))
