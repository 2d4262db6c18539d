"""What moments tell of a structure in the learned space, and the structure nearest to a given one that agrees with it.

From Kam's C_l (`kam`) on the rings, with errors, follow the correlations X_l = x_l x_lᵀ of its coefficients: with the
population's spread s of them and the rings' transforms B_l,

    X_l ≈ R_l C_l R_lᵀ,   R_l = (B_l s)ᵀ (B_l s sᵀ B_lᵀ + ε_l)⁻¹,

ε_l being the error of C_l's elements, so that what noise covers counts as 0. A structure that has them is x_l = F_l O_l
with F_l F_lᵀ = X_l of rank 2 l + 1 at most and O_l any matrix with orthonormal rows; the one nearest to x has for O_l
the polar factor of F_lᵀ x_l. Degree 0 has no freedom: the first moment is A_0.

All of it is of batches, in scaled coefficients z = x / s, and does not depend on how structures lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.kam import Autocorrelations, coupling
from clarice.abinitio.orthogonal_factors import factor_of, polar_factor
from clarice.abinitio.structure_space import StructureSpace, structure_space

# Errors of correlations are never taken for less: what double precision and the finite ball leave.
LEAST_ERROR = 1e-8
# Correlations with errors as large as this tell nothing.
UNKNOWN = 10.0
# Roots of much less than this are proportional to it: their derivative stays finite.
_TINY = 1e-6
# The error of the first moment, over the root of that of the second: what some ten thousand particles have.
_FIRST_ERROR = 0.1


@dataclass(frozen=True)
class KnownCorrelations:
    """`factors` F_l (B, S_l, r_l) of scaled coefficients, and `context` (B, …), what is known in numbers."""

    space: StructureSpace
    factors: list[Tensor]
    context: Tensor

    @classmethod
    def of(
        cls, first: Tensor, correlations: Tensor, error: Tensor, spread: Tensor, by_ring: Tensor | None = None
    ) -> KnownCorrelations:
        """Of A_0 `first` (B, K) and C_l `correlations` (B, degree + 1, K, K) with errors of `error` (B,) in degree 0.

        In a scale in which degree 0 has about unit length; errors grow with the degree as `error_growth` says. `spread`
        (size,) is the population's. `by_ring` (K,): how much larger errors are on some rings than on others; those that
        the network learns from are alike. Where errors are UNKNOWN, nothing is told. Calculated in float64.
        """
        space = structure_space()
        error = error.double().clamp_min(LEAST_ERROR)
        factors, told = [], []
        for l, inverse in enumerate(_inverses(error, spread, by_ring)):  # noqa: E741 — the degree's name in the field
            if l == 0:
                factor = inverse @ first[:, :, None].double()
            else:
                known = inverse @ correlations[:, l].double() @ inverse.mT
                factor = factor_of((known + known.mT) / 2, min(space.counts[l], 2 * l + 1))
            factor = torch.where((error < UNKNOWN)[:, None, None], factor, 0.0)
            factors.append(factor.float())
            told.append(_numbers(factor @ factor.mT / (2 * l + 1)))
        told.append(error.log10()[:, None] / 4)
        return cls(space, factors, torch.cat(told, dim=-1).float())

    @classmethod
    def measured(cls, first_moment: Tensor, found: Autocorrelations, spread: Tensor) -> KnownCorrelations:
        """Of one stack's M1 (K,) and C_l (degree + 1, K, K) with their errors, in any scale."""
        space = structure_space()
        first = first_moment.double() * (4 * math.pi) ** 0.5  # a_0 of degree 0 is A_0 / √4π
        # The length of degree 0 in the scale of M1, which is well known.
        degree_0 = spread.double()[: space.counts[0]]
        inverse = _inverses(torch.tensor([LEAST_ERROR], dtype=torch.float64) ** 0.5, spread)[0][0]
        scale = (inverse @ first * degree_0).norm()
        growth = error_growth(space.degree)[:, None, None]
        errors = found.errors[: space.degree + 1].detach() / growth
        told = errors[errors > 0]  # of a pair of rings, the degrees that both see
        square = scale.detach().square()
        error = (told.median() if len(told) else errors.new_zeros(())) / square
        # Ring by ring, the median over the degrees that a ring sees: a CTF leaves little of the lowest.
        own = errors.diagonal(dim1=1, dim2=2)
        rings = torch.stack([ring[ring > 0].median() if ring.any() else error * square for ring in own.T])
        by_ring = rings / (error * square).clamp_min(1e-300) if len(told) else None
        correlations = found.values[: space.degree + 1] / scale**2
        return cls.of(first[None] / scale, correlations[None], error[None], spread, by_ring)

    @classmethod
    def unknown(cls, spread: Tensor) -> KnownCorrelations:
        """Of a stack whose views do not come from everywhere: its moments are no correlations of the structure."""
        space = structure_space()
        rings = len(space.transforms[0])
        nothing = torch.zeros((space.degree + 1, rings, rings), dtype=torch.float64)
        return cls.of(nothing[None, 0, 0], nothing[None], torch.tensor([UNKNOWN]), spread)

    def __len__(self) -> int:
        return len(self.context)

    @property
    def tells(self) -> bool:
        """Whether anything is known."""
        return any(bool(factor.any()) for factor in self.factors)

    def repeated(self, times: int) -> KnownCorrelations:
        """Each of the batch so many times, one after the other."""
        factors = [factor.repeat_interleave(times, dim=0) for factor in self.factors]
        return KnownCorrelations(self.space, factors, self.context.repeat_interleave(times, dim=0))

    def nearest(self, structures: Tensor) -> Tensor:
        """The structures (B, size) nearest to `structures` (B, size) that have these correlations."""
        found = []
        for l, (factor, part) in enumerate(zip(self.factors, self.space.split(structures), strict=True)):  # noqa: E741
            if l == 0:
                found.append(factor.to(part))
                continue
            found.append(factor.to(part) @ polar_factor(factor.to(part).mT @ part))
        return self.space.joined(found)


def _inverses(error: Tensor, spread: Tensor, by_ring: Tensor | None = None) -> list[Tensor]:
    """R_l (B, S_l, K) over the spread of each degree, for errors (B,) of C_0; R_0 is for the first moment."""
    space = structure_space()
    firsts = np.flatnonzero(np.diff(space.group_of_each, prepend=-1))
    growth = error_growth(space.degree)
    growth[0] = _FIRST_ERROR**2
    rings = torch.ones(len(space.transforms[0]), dtype=torch.float64) if by_ring is None else by_ring.double()
    found = []
    scales = torch.split(spread.double()[torch.from_numpy(firsts)], space.counts)
    for transform, scale, factor in zip(space.transforms, scales, growth, strict=True):
        seen = transform * scale
        inner = seen @ seen.T + factor * error[:, None, None] * torch.diag(rings)
        found.append(torch.linalg.solve(inner, seen.expand(len(error), -1, -1)).mT)
    return found


def error_growth(degree: int) -> Tensor:
    """How the errors of C_l grow with l, those of C_0 being 1, if all orders of the second moment err alike."""
    inverse = torch.linalg.inv(coupling(degree, degree))
    growth = inverse.square().sum(dim=1).sqrt()
    return growth / growth[0]


def disturbed(
    first: Tensor, correlations: Tensor, error: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A_0 (B, K) and C_l (B, degree + 1, K, K) with errors as `KnownCorrelations.of` takes them to have."""
    growth = error_growth(correlations.shape[1] - 1).to(correlations)
    noise = torch.randn(correlations.shape, generator=generator, dtype=correlations.dtype)
    noise = (noise + noise.mT) / 2**0.5 * growth[:, None, None]
    mean_noise = torch.randn(first.shape, generator=generator, dtype=first.dtype)
    return (
        first + _FIRST_ERROR * error.sqrt()[:, None] * mean_noise,
        correlations + error[:, None, None, None] * noise,
    )


def _numbers(matrix: Tensor) -> Tensor:
    """The upper triangle (B, S (S + 1) / 2) of a symmetric matrix, in roots that keep its numbers of about 1."""
    row, column = torch.triu_indices(matrix.shape[-1], matrix.shape[-1])
    upper = matrix[..., row, column]
    return upper * (upper.abs() + _TINY).rsqrt()
