"""Factors of matrices that leave an orthogonal matrix open, with derivatives that stay finite.

F with F Fᵀ ≈ X, and the polar factor O of M, the matrix with orthonormal rows that is nearest to it. Both are smooth
where no singular value is 0; there a small change of the matrix may turn the factor by any angle. The derivatives here
are those with 1 / s replaced by s / (s² + ε² s₁²), s₁ the largest: exact but for directions in which the matrix is
hardly anything, which get none. Values are exact. F is one of many: its derivative is right for what depends on F Fᵀ
alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# ε: singular values below this share of the largest count less and less.
_DAMPING = 1e-3


def factor_of(matrix: Tensor, rank: int) -> Tensor:
    """F (…, S, rank) with F Fᵀ the nearest matrix to a symmetric `matrix` (…, S, S) that is positive and of that rank.

    Its first columns are 0 where `rank` is above S.
    """
    factor: Tensor = _Factor.apply(matrix, min(rank, matrix.shape[-1]))  # type: ignore[no-untyped-call]
    return torch.nn.functional.pad(factor, (max(rank - matrix.shape[-1], 0), 0))


def polar_factor(matrix: Tensor) -> Tensor:
    """The matrix with orthonormal rows nearest to `matrix` (…, r, n), r ≤ n."""
    factor: Tensor = _Polar.apply(matrix)  # type: ignore[no-untyped-call]
    return factor


class _Factor(torch.autograd.Function):
    """X = U λ Uᵀ to F = U √λ, of the largest λ, where they are positive.

    Of the dF that belong to dX one is Σ_j U_j m_ij (U_jᵀ dX U_i) / √λ_i in column i, with m_ij = ½ for j that are kept,
    and λ_i / (λ_i − λ_j) for others.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, rank: int) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        roots = values[..., -rank:].clamp_min(0).sqrt()
        ctx.save_for_backward(values, vectors, roots)
        return vectors[..., -rank:] * roots[..., None, :]

    @staticmethod
    def backward(ctx: Any, of_factor: Tensor) -> tuple[Tensor, None]:
        values, vectors, roots = ctx.saved_tensors
        rank, size = roots.shape[-1], values.shape[-1]
        kept = torch.nn.functional.pad(roots > 0, (size - rank, 0))
        own = values[..., None, -rank:].clamp_min(0)  # (…, 1, i)
        share = own * _damped_inverse(own - values[..., :, None], own.squeeze(-2))
        share = torch.where(kept[..., :, None], 0.5, share) * _damped_inverse(roots, roots)[..., None, :]
        of_matrix = vectors @ (share * (vectors.mT @ of_factor)) @ vectors[..., -rank:].mT
        return (of_matrix + of_matrix.mT) / 2, None


class _Polar(torch.autograd.Function):
    """M = U s Vᵀ to O = U Vᵀ.

    dO = U [(Uᵀ dM V − Vᵀ dMᵀ U) / (s_i + s_j)] Vᵀ + U s⁻¹ Uᵀ dM (1 − V Vᵀ).
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        ctx.save_for_backward(left, values, right)
        return left @ right

    @staticmethod
    def backward(ctx: Any, of_factor: Tensor) -> Tensor:
        left, values, right = ctx.saved_tensors
        turned = left.mT @ of_factor  # (…, r, n)
        inside = turned @ right.mT
        sums = values[..., :, None] + values[..., None, :]
        antisymmetric = (inside - inside.mT) * _damped_inverse(sums, 2 * values)
        outside = (turned - inside @ right) * _damped_inverse(values, values)[..., None]
        found: Tensor = left @ (antisymmetric @ right + outside)
        return found


def _damped_inverse(values: Tensor, singular: Tensor) -> Tensor:
    """values / (values² + ε² s₁²), s₁ the largest of `singular` (…, r)."""
    largest = singular.amax(dim=-1).view(*singular.shape[:-1], *(1,) * (values.ndim - singular.ndim + 1))
    return values / (values.square() + (_DAMPING * largest).square().clamp_min(torch.finfo(values.dtype).tiny))
