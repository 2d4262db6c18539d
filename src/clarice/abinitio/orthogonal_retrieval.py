"""Orthogonal-matrix retrieval: a structure from its correlations C_l and what else is known of it.

With views from everywhere the second moment gives C_l = A_l A_lᵀ (`kam`), and so A_l = F_l O_l but for an orthogonal
matrix O_l of each degree (Bhamre, Zhang & Singer, ISBI 2015). What fixes those here: the density is nowhere negative
and lies in a ball, and one image, denoised, is its projection (Huang et al. 2023, arXiv 2207.02985, by gradients). Two
projections stand for the two kinds of knowledge,

    P_M A: the nearest structure with these correlations, O_l the polar factor of F_lᵀ A_l,
    P_S A: the density of A without its negative part, and then the slice of the reference set right,

and are iterated by relaxed averaged alternating reflections (Luke, Inverse Problems 21, 37, 2005), which leave minima
that plain alternation stays in. Many random starts: the one that explains further images best is kept, or, without any,
the one on which both agree best. The hand stays open, and the reference decides how the structure lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.kam import Autocorrelations
from clarice.abinitio.likeness import Likeness
from clarice.core.parallel import ordered_map
from clarice.core.progress import Progress, silent
from clarice.geometry.harmonics import BallBasis, degrees_of, slice_series

# The relaxation β of the averaged reflections.
_RELAXATION = 0.8
# Voxels across the finest wave of the rings.
_VOXELS_PER_WAVE = 3
# What is smaller than this share of the largest singular value of a degree's transform, rings cannot tell.
_UNSEEN = 1e-2


@dataclass(frozen=True)
class RetrievalSettings:
    """Random `starts`, `iterations` of reflections and `last_iterations` of plain alternation, and the `seed`."""

    starts: int = 24
    iterations: int = 400
    last_iterations: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Retrieved:
    """`volume` (L, L, L), and `spheres` A ((degree + 1)², K) with the correlations given, of the start `chosen`.

    By start: the `residual`, how far P_S moves A, over its power, and the `score` with further images, if any.
    """

    volume: Tensor
    spheres: Tensor
    residual: list[float]
    score: list[float] | None
    chosen: int


def retrieve(
    correlations: Autocorrelations,
    ball: BallBasis,
    radii: tuple[float, ...],
    settings: RetrievalSettings,
    *,
    reference: Tensor | None = None,
    further: Tensor | None = None,
    progress: Progress = silent,
) -> Retrieved:
    """A structure in `ball` with the correlations of its spheres of `radii`, cycles per box.

    `reference` (orders + 1, K): the series of an image that shows it along z; `further` (n, orders + 1, K): those of
    images from unknown directions, by which starts are told apart.
    """
    known = _Known(correlations, ball, radii, reference)

    def start_of(number: int) -> tuple[float, Tensor]:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
        return _iterated(known, torch.randn(known.shape, generator=generator, dtype=torch.float64), settings)

    found: list[tuple[float, Tensor]] = []
    for each in ordered_map(start_of, range(settings.starts)):
        found.append(each)
        progress("retrieving", len(found), settings.starts)
    residual = [each[0] for each in found]
    like = None if further is None else Likeness(further, ball.degree, radii)
    score = None if like is None else [like(each[1]) for each in found]
    chosen = int(np.argmin(residual)) if score is None else int(np.argmax(score))
    spheres = found[chosen][1]
    return Retrieved(ball.to_volume(known.coefficients(spheres)), spheres, residual, score, chosen)


def _iterated(known: _Known, start: Tensor, settings: RetrievalSettings) -> tuple[float, Tensor]:
    at = known.with_correlations(start)
    for _ in range(settings.iterations):
        measured = known.with_correlations(at)
        reflected = 2 * measured - at
        twice = 2 * known.possible(reflected) - reflected
        at = _RELAXATION * (twice + at) / 2 + (1 - _RELAXATION) * measured
    for _ in range(settings.last_iterations):
        at = known.possible(known.with_correlations(at))
    at = known.with_correlations(at)
    return float((known.possible(at) - at).square().sum() / at.square().sum()), at


@dataclass(frozen=True)
class _Known:
    """Both projections, on A ((degree + 1)², K) with the ball's degrees."""

    correlations: Autocorrelations
    ball: BallBasis
    radii: tuple[float, ...]
    reference: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        return (self.ball.degree + 1) ** 2, len(self.radii)

    @cached_property
    def _factors(self) -> list[Tensor]:
        """F_l (K, 2l + 1); 0 for degrees of which nothing was measured."""
        factors = self.correlations.factors()
        missing = range(len(factors), self.ball.degree + 1)
        return [
            *factors[: self.ball.degree + 1],
            *(torch.zeros(len(self.radii), 2 * l + 1, dtype=torch.float64) for l in missing),  # noqa: E741
        ]

    @cached_property
    def _transforms(self) -> list[Tensor]:
        return self.ball.transforms(self.radii)

    @cached_property
    def _inverses(self) -> list[Tensor]:
        return [torch.linalg.pinv(transform, rtol=_UNSEEN) for transform in self._transforms]

    @cached_property
    def _density(self) -> tuple[Tensor, Tensor]:
        """Matrices from coefficients to the density at voxels of the ball, and back by least squares."""
        step = self.ball.box / (_VOXELS_PER_WAVE * max(self.radii))
        reach = int(self.ball.radius_px / step) + 1
        axis = (np.arange(-reach, reach) + 0.5) * step
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        values = self.ball.functions_at(points[np.linalg.norm(points, axis=-1) < self.ball.radius_px])
        return values, torch.linalg.solve(values.T @ values, values.T)

    @cached_property
    def _slice(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The matrix from A to the reference's series, real above imaginary part; its inverse; the series."""
        if self.reference is None:
            return None
        series = slice_series(np.eye(3)[None], self.ball.degree, len(self.reference) - 1)[0]
        matrix = torch.cat([series.real, series.imag])
        wanted = self.reference.to(torch.complex128)
        return matrix, torch.linalg.pinv(matrix), torch.cat([wanted.real, wanted.imag])

    def coefficients(self, spheres: Tensor) -> Tensor:
        """The function in the ball nearest to A."""
        parts = zip(self._inverses, degrees_of(spheres, 0), strict=True)
        return torch.cat([(inverse @ part.T).flatten() for inverse, part in parts])

    def with_correlations(self, spheres: Tensor) -> Tensor:
        """P_M: the nearest A with the measured correlations."""
        parts = []
        for factor, part in zip(self._factors, degrees_of(spheres, 0), strict=True):
            left, _, right = torch.linalg.svd(factor.T @ part.T, full_matrices=False)
            parts.append((factor @ (left @ right)).T)
        return torch.cat(parts)

    def possible(self, spheres: Tensor) -> Tensor:
        """P_S: A of the density without its negative part, its slice along z that of the reference."""
        values, back = self._density
        density = (values @ self.coefficients(spheres)).clamp_min(0)
        spheres = self.ball.on_spheres(back @ density, self._transforms)
        if self._slice is None:
            return spheres
        matrix, inverse, wanted = self._slice
        return spheres + inverse @ (wanted - matrix @ spheres)
