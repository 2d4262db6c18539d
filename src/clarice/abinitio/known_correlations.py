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

from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.abinitio.kam import coupling
from clarice.abinitio.structure_space import StructureSpace, structure_space

# Errors of correlations are never taken for less: what double precision and the finite ball leave.
LEAST_ERROR = 1e-8
# The error of the first moment, over the root of that of the second: what some ten thousand particles have.
_FIRST_ERROR = 0.1


@dataclass(frozen=True)
class KnownCorrelations:
    """`factors` F_l (B, S_l, r_l) of scaled coefficients, and `context` (B, …), what is known in numbers.

    `length` (B,): the length of degree 0, by which coefficients were divided.
    """

    space: StructureSpace
    factors: list[Tensor]
    context: Tensor
    length: Tensor

    @classmethod
    def of(cls, first: Tensor, correlations: Tensor, error: Tensor, spread: Tensor) -> KnownCorrelations:
        """Of A_0 `first` (B, K) and C_l `correlations` (B, degree + 1, K, K), whose errors are `error` (B,) in degree 0.

        Errors are in units of the square of `first`'s scale, and grow with the degree as `error_growth`. `spread`
        (size,) is the population's. Float64.
        """
        space = structure_space()
        of_group = torch.zeros(int(space.group_of_each[-1]) + 1, dtype=torch.float64)
        of_group[torch.from_numpy(space.group_of_each)] = spread.double()
        growth = error_growth(space.degree)
        factors, told = [], []
        error = error.double().clamp_min(LEAST_ERROR)
        length = torch.ones_like(error)
        for l, (transform, scale) in enumerate(zip(space.transforms, of_group.split(space.counts), strict=True)):  # noqa: E741 — the name in the field
            seen = transform * scale
            inner = seen @ seen.T + growth[l] * error[:, None, None] * torch.eye(len(seen), dtype=torch.float64)
            inverse = torch.linalg.solve(inner, seen.expand(len(error), -1, -1)).mT  # R_l / s, (B, S_l, K)
            if l == 0:
                degree_0 = (inverse @ first[:, :, None].double())[..., 0] * scale
                length = degree_0.norm(dim=-1).clamp_min(1e-300)
                factor = (degree_0 / length[:, None] / scale)[..., None]
            else:
                known = inverse @ correlations[:, l].double() @ inverse.mT / length[:, None, None].square()
                factor = _factor(known, min(space.counts[l], 2 * l + 1))
            factors.append(factor.float())
            told.append(_numbers(factor @ factor.mT / (2 * l + 1)))
        told.append((error / length.square()).log10()[:, None] / 4)
        return cls(space, factors, torch.cat(told, dim=-1).float(), length)

    def __len__(self) -> int:
        return len(self.length)

    def repeated(self, times: int) -> KnownCorrelations:
        """Each of the batch so many times, one after the other."""
        factors = [factor.repeat_interleave(times, dim=0) for factor in self.factors]
        return KnownCorrelations(
            self.space,
            factors,
            self.context.repeat_interleave(times, dim=0),
            self.length.repeat_interleave(times, dim=0),
        )

    def nearest(self, structures: Tensor) -> Tensor:
        """The structures (B, size) nearest to `structures` (B, size) that have these correlations."""
        found = []
        for l, (factor, part) in enumerate(zip(self.factors, self.space.split(structures), strict=True)):  # noqa: E741
            if l == 0:
                found.append(factor.to(part))
                continue
            left, _, right = torch.linalg.svd(factor.to(part).mT @ part, full_matrices=False)
            found.append(factor.to(part) @ (left @ right))
        return self.space.joined(found)


def error_growth(degree: int) -> Tensor:
    """How the errors of C_l grow with l, those of C_0 being 1, if all orders of the second moment err alike."""
    inverse = torch.linalg.inv(coupling(degree, degree))
    growth = inverse.square().sum(dim=1).sqrt()
    return growth / growth[0]


def correlations_of(spheres: Tensor) -> Tensor:
    """C_l (B, degree + 1, K, K) of A (B, (degree + 1)², K)."""
    degree = round(spheres.shape[-2] ** 0.5) - 1
    parts = torch.split(spheres, [2 * l + 1 for l in range(degree + 1)], dim=-2)  # noqa: E741
    return torch.stack([part.mT @ part for part in parts], dim=1)


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


def _factor(matrix: Tensor, rank: int) -> Tensor:
    """F (B, S, rank) with F Fᵀ the nearest matrix to `matrix` (B, S, S) that is positive and of that rank."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return vectors[..., -rank:] * values[..., None, -rank:].clamp_min(0).sqrt()


def _numbers(matrix: Tensor) -> Tensor:
    """The upper triangle (B, S (S + 1) / 2) of a symmetric matrix, in roots that keep its numbers of about 1."""
    row, column = torch.triu_indices(matrix.shape[-1], matrix.shape[-1])
    upper = matrix[..., row, column]
    return upper.sign() * upper.abs().sqrt()
