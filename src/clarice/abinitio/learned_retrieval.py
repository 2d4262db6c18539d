"""Structures from moments with a network that knows what molecules look like.

Where views come from everywhere, the first two moments give the correlations C_l (`kam`), and structures that have
them are drawn (`structure_draws`); where they do not, or little is measured, structures are drawn from what the network
knows alone. What else is known tells the draws apart: the moments, third ones above all, or images. Then draws and
moments take turns, at less and less noise: the network draws anew around a structure, and the moments, met by least
squares, pull that their way while the network's draw holds it where they say nothing. At last the moments are fitted
from there (`moment_fit`), whose random starts this replaces. The hand stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.moment_fit import DENSITY_SPREAD, MomentFit, minimised
from clarice.abinitio.moment_model import MomentModel, MomentTargets
from clarice.abinitio.moment_network import MomentNetwork
from clarice.abinitio.moments import MomentRings
from clarice.abinitio.structure_draws import DrawSettings, draw_structures, drawn_around
from clarice.abinitio.structure_space import structure_space
from clarice.core.parallel import ordered_map
from clarice.core.progress import Progress, silent
from clarice.geometry.harmonics import degree_of_each

# Third moments are taken of so many rings, and of orders up to this sum.
_THIRD_RINGS, _THIRD_ORDERS = 6, 10
# The highest frequency of the map, in units of the last ring's.
_FINEST = 1.05
# How far from 0 coefficients may be in the last fit, in units of the population's.
_LOOSELY = 10.0


def learned_model(box: int, diameter_px: float, density_degree: int = 1, *, third: bool = True) -> MomentModel:
    """The model of moments that structures in the learned space have, for molecules of `diameter_px`."""
    space = structure_space()
    low, sums = (_THIRD_RINGS, _THIRD_ORDERS) if third else (0, 0)
    rings = MomentRings(box, space.radii(box, diameter_px), space.degree, low, sums)
    return MomentModel(space.ball(box, diameter_px), rings, density_degree)


@dataclass(frozen=True)
class LearnedSettings:
    """The draws from each of what may be known; how many of them, the best, go on; and the levels of the turns.

    At each level the best of so many `tries` is taken, and met with third moments, if there are any, by `iterations` of
    least squares; the fit at the end takes `last_iterations`.
    """

    draws: DrawSettings = field(default_factory=DrawSettings)
    going_on: int = 2
    tries: int = 4
    levels: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35, 0.2)
    iterations: int = 50
    last_iterations: int = 600
    seed: int = 0


def retrieve_learned(
    targets: MomentTargets,
    model: MomentModel,
    network: MomentNetwork,
    known: Sequence[KnownCorrelations],
    settings: LearnedSettings,
    *,
    score: Callable[[Tensor], float] | None = None,
    progress: Progress = silent,
) -> MomentFit:
    """The structure that explains `targets` best, of those that the network draws from each of `known`.

    `score`: of a structure's spheres A (n, K), the lower the better, by which draws are chosen and compared at the end;
    their misfit to the moments if None. The scores of the draws stand for the misfits of starts.
    """
    draws: list[tuple[_Turns, Tensor]] = []
    for each in known:
        turns = _Turns(targets, model, network, each, settings, score)
        draws += [(turns, draw) for draw in draw_structures(network, each, settings.draws, progress)]
    scores = list(ordered_map(lambda item: item[0].score_of(item[0].placed(item[1])), draws))
    best = sorted(range(len(scores)), key=scores.__getitem__)[: settings.going_on]
    ended: list[tuple[float, Tensor]] = []
    for place in best:
        turns, draw = draws[place]
        z = turns.taken(draw, settings.seed * 1_000_003 + place)
        ended.append((turns.score_of(z), z))
        progress("network and moments take turns", len(ended), len(best))
    _, z = min(ended, key=lambda each: each[0])
    x, c = turns.coefficients(z)
    within = x * (model.ball.frequencies() <= _FINEST * targets.rings.radii[-1])
    return MomentFit(model.ball.to_volume(within), x, c, turns.misfit(z), scores)


@dataclass(frozen=True)
class _Turns:
    """Structure and density in one vector z, the structure in the network's coefficients times its `amplitude`."""

    targets: MomentTargets
    model: MomentModel
    network: MomentNetwork
    known: KnownCorrelations
    settings: LearnedSettings
    score: Callable[[Tensor], float] | None

    @cached_property
    def _transforms(self) -> list[Tensor]:
        return self.model.ball.transforms(self.targets.rings.radii)

    @cached_property
    def _spread(self) -> Tensor:
        of_density = DENSITY_SPREAD / torch.from_numpy(degree_of_each(self.model.density_degree)[1:])
        return torch.cat([self.network.spread.double(), of_density]).double()

    def coefficients(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the structure in the model's ball, and those of the density."""
        x, c = torch.split(z * self._spread, [self.model.ball.size, self.model.density_size])
        return x, c

    def placed(self, draw: Tensor) -> Tensor:
        """z of a network's structure (size,), as strong as the first moment says, seen from everywhere."""
        z = torch.cat([draw.double(), torch.zeros(self.model.density_size, dtype=torch.float64)])
        with torch.no_grad():
            first = self.model.predict(*self.coefficients(z), third=False).first
        weight, wanted = self.targets.first_weight, self.targets.moments.first
        amplitude = (weight * first * wanted).sum() / (weight * first.square()).sum().clamp_min(1e-300)
        z[: self.model.ball.size] *= amplitude
        return z

    def score_of(self, z: Tensor) -> float:
        """By what structures are compared, the lower the better."""
        if self.score is None:
            return self.misfit(z)
        return self.score(self.model.ball.on_spheres(self.coefficients(z)[0], self._transforms))

    def misfit(self, z: Tensor) -> float:
        """Of all moments there are."""
        with torch.no_grad():
            found = self.model.predict(*self.coefficients(z), third=self.targets.moments.third is not None)
            return float(self.targets.misfit(found))

    def taken(self, draw: Tensor, seed: int) -> Tensor:
        """z after all turns from a draw (size,), the best of them fitted to the end."""
        generator = torch.Generator().manual_seed(seed)
        share = 1.0 if self.targets.moments.third is not None else 0.0
        size = self.model.ball.size
        best = self.placed(draw)
        amplitude = float(best[:size].norm() / draw.double().norm())
        least = self.score_of(best)
        for level in self.settings.levels:
            around = (best[:size] / amplitude).float().expand(self.settings.tries, -1)
            drawn = drawn_around(self.network, self.known, around, level, generator)
            tried = [torch.cat([amplitude * each.double(), best[size:]]) for each in drawn]
            expected = min(tried, key=self.score_of)
            # What the network is unsure of by, in each coefficient, is about the level of its noise.
            weight = 1 / (amplitude * level) ** 2
            z = expected
            if share > 0:  # the first two moments are what the network was told, and keeps to
                z, _ = minimised(
                    expected, self._spread, self.targets, self.model, share, self.settings.iterations, expected, weight
                )
            if (found := self.score_of(z)) < least:
                best, least = z, found
        weight = 1 / (_LOOSELY * amplitude) ** 2
        return minimised(
            best, self._spread, self.targets, self.model, share, self.settings.last_iterations, None, weight
        )[0]
