"""Structures from moments with a network that knows what molecules look like.

Where views come from everywhere, the first two moments give the correlations C_l (`kam`), and structures that have them
are drawn (`structure_draws`); where they do not, or little is measured, structures are drawn from what the network
knows alone. What else is known tells the draws apart: the moments, third ones above all, or images. Then they take
turns with the network, at less and less noise: it draws anew around a structure, and moments and images, met by least
squares, pull that their way while the network's draw holds it where they say nothing. At last the moments are fitted
from there (`moment_fit`), whose random starts this replaces. The hand stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from clarice.abinitio.degree_agreement import AS_WELL, degree_agreement
from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.likeness import Likeness
from clarice.abinitio.moment_fit import DENSITY_SPREAD, THIRD_ORDERS, THIRD_RINGS, MomentFit, minimised
from clarice.abinitio.moment_model import MomentModel, MomentTargets
from clarice.abinitio.moment_network import MomentNetwork
from clarice.abinitio.structure_draws import DrawSettings, draw_structures, drawn_around
from clarice.abinitio.structure_space import learned_rings, structure_space
from clarice.core.parallel import ordered_map
from clarice.core.progress import Progress, silent
from clarice.core.seeds import generator_of
from clarice.geometry.harmonics import degree_of_each, degrees_of

# The highest frequency of the map, in units of the last ring's.
_FINEST = 1.05
# How far from 0 coefficients may be in the last fit, in units of the population's.
_LOOSELY = 10.0


def learned_model(box: int, diameter_px: float, density_degree: int = 1, *, third: bool = True) -> MomentModel:
    """The model of moments that structures in the learned space have, for molecules of `diameter_px`."""
    space = structure_space()
    low, sums = (THIRD_RINGS, THIRD_ORDERS) if third else (0, 0)
    rings = learned_rings(box, diameter_px, low, sums)
    return MomentModel(space.ball(box, diameter_px), rings, density_degree)


@dataclass(frozen=True)
class LearnedSettings:
    """The draws from each of what may be known; how many of each, the best, go on; and the levels of the turns.

    At each level the best of so many `tries` is taken. It is moved towards images, where there are any, whose series
    are off by `image_error` of their size, and towards third moments, where there are any, by `iterations` of least
    squares. The fit at the end takes `last_iterations`.
    """

    draws: DrawSettings = field(default_factory=DrawSettings)
    going_on: int = 2
    tries: int = 4
    levels: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35, 0.2)
    image_error: float = 0.3
    iterations: int = 50
    last_iterations: int = 600


def retrieve_learned(
    targets: MomentTargets,
    model: MomentModel,
    network: MomentNetwork,
    known: Sequence[KnownCorrelations],
    settings: LearnedSettings,
    *,
    images: Likeness | None = None,
    progress: Progress = silent,
) -> MomentFit:
    """The structure that explains `targets` best, of those that the network draws from each of `known`.

    `images` known to show the structure decide among draws, and pull them their way; without any, the misfit to the
    moments does. What draws are scored by, the lower the better, stands for the misfits of starts.
    """
    scores: list[float] = []
    ended: list[tuple[float, _Turns, Tensor]] = []
    for each in known:
        turns = _Turns(targets, model, network, each, settings, images)
        draws = draw_structures(network, each, settings.draws, progress)
        of_draws = list(ordered_map(turns.score_of, [turns.placed(draw) for draw in draws]))
        # Of each, since draws with correlations meet the second moment before any density of views was looked for.
        for place in sorted(range(len(draws)), key=of_draws.__getitem__)[: settings.going_on]:
            z = turns.taken(draws[place], generator_of(settings.draws.seed, len(scores) + place))
            ended.append((turns.score_of(z), turns, z))
            progress("network and moments take turns", len(ended), len(known) * settings.going_on)
        scores += of_draws
    chosen = min(range(len(ended)), key=lambda place: ended[place][0])
    misfits = [turns.misfit(z) for _, turns, z in ended]
    others = [
        turns.coefficients(z)[0]
        for place, (_, turns, z) in enumerate(ended)
        if place != chosen and misfits[place] <= AS_WELL * misfits[chosen]
    ]
    _, turns, z = ended[chosen]
    x, c = turns.coefficients(z)
    agreement = degree_agreement(model.ball, targets.rings.radii, x, others).tolist()
    within = x * (model.ball.frequencies() <= _FINEST * targets.rings.radii[-1])
    return MomentFit(model.ball.to_volume(within), x, c, misfits[chosen], scores, agreement)


@dataclass(frozen=True)
class _Turns:
    """Structure and density in one vector z, the structure in the network's coefficients times its `amplitude`."""

    targets: MomentTargets
    model: MomentModel
    network: MomentNetwork
    known: KnownCorrelations
    settings: LearnedSettings
    images: Likeness | None

    @cached_property
    def _transforms(self) -> list[Tensor]:
        return self.model.ball.transforms(self.targets.rings.radii)

    @cached_property
    def _spread(self) -> Tensor:
        of_density = DENSITY_SPREAD / torch.from_numpy(degree_of_each(self.model.density_degree)[1:])
        return torch.cat([self.network.spread.double(), of_density])

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
        return self.misfit(z) if self.images is None else -self.images(self._spheres(z))

    def _spheres(self, z: Tensor) -> Tensor:
        return self.model.ball.on_spheres(self.coefficients(z)[0], self._transforms)

    def _nearer_to_images(self, expected: Tensor, images: Likeness, weight: float) -> Tensor:
        """Least squares from z `expected`: the images' series are slices of A in the views they are most like now.

        The change is held by `weight`.
        """
        size, slices = self.model.ball.size, images.nearest_slices(self._spheres(expected))
        parts = zip(degrees_of(slices, -1), self._transforms, strict=True)
        design = torch.cat([torch.einsum("iom,ks->ioksm", m, t.to(m.dtype)).flatten(3) for m, t in parts], dim=-1)
        design = design * self._spread[:size]
        precision = images.precision(self.settings.image_error)
        missing = images.images - design @ expected[:size].to(design.dtype)
        weighted = (design * precision[..., None]).flatten(0, 2)
        normal = (weighted.mH @ design.flatten(0, 2)).real + weight * torch.eye(size, dtype=torch.float64)
        change = torch.linalg.solve(normal, (weighted.mH @ missing.flatten()).real)
        return torch.cat([expected[:size] + change, expected[size:]])

    def misfit(self, z: Tensor) -> float:
        """Of all moments there are."""
        with torch.no_grad():
            found = self.model.predict(*self.coefficients(z), third=self.targets.moments.third is not None)
            return float(self.targets.misfit(found))

    def _weights(self, of_structure: float) -> Tensor:
        """Of squares of z beside the misfit: a structure's, and the density's own, which has a scale of its own."""
        return torch.cat([
            torch.full((self.model.ball.size,), of_structure, dtype=torch.float64),
            torch.ones(self.model.density_size, dtype=torch.float64),
        ])  # fmt: skip

    def _met(self, z: Tensor, expected: Tensor, weights: Tensor, iterations: int) -> Tensor:
        """z after least squares on all moments there are."""
        share = 1.0 if self.targets.moments.third is not None else 0.0
        return minimised(z, self._spread, self.targets, self.model, share, iterations, expected, weights)[0]

    def taken(self, draw: Tensor, generator: torch.Generator) -> Tensor:
        """z after all turns from a draw (size,), the best of them fitted to the end."""
        size, nowhere = self.model.ball.size, torch.zeros(self.model.density_size, dtype=torch.float64)
        best = self.placed(draw)
        amplitude = float(best[:size].norm() / draw.double().norm())
        least = self.score_of(best)
        for level in self.settings.levels:
            around = (best[:size] / amplitude).float().expand(self.settings.tries, -1)
            drawn = drawn_around(self.network, self.known, around, level, generator, self.settings.draws.lowest)
            tried = [torch.cat([amplitude * each.double(), best[size:]]) for each in drawn]
            z = min(tried, key=self.score_of)
            # What the network is unsure of by, in each coefficient, is about the level of its noise.
            weight = 1 / (amplitude * level) ** 2
            if self.images is not None:
                z = self._nearer_to_images(z, self.images, weight)
                if self.known.tells:
                    z[:size] = amplitude * self.known.nearest(z[None, :size] / amplitude)[0]
            if self.targets.moments.third is not None:  # the first two are what the network was told, and keeps to
                expected = torch.cat([z[:size], nowhere])
                z = self._met(z, expected, self._weights(weight), self.settings.iterations)
            if (found := self.score_of(z)) < least:
                best, least = z, found
        weights = self._weights(1 / (_LOOSELY * amplitude) ** 2)
        fitted = self._met(best, torch.zeros_like(best), weights, self.settings.last_iterations)
        return min((best, fitted), key=self.score_of)
