"""Factors have the right derivatives where they are smooth, and finite ones where they are not."""

from __future__ import annotations

import pytest
import torch

from clarice.abinitio.orthogonal_factors import factor_of, polar_factor


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_factor_is_the_nearest_positive_matrix_of_its_rank() -> None:
    matrix = random(3, 5, 5)
    matrix = matrix + matrix.mT
    values, vectors = torch.linalg.eigh(matrix)
    for rank in (2, 5, 7):
        factor = factor_of(matrix, rank)
        assert factor.shape == (3, 5, rank)
        kept = values.clamp_min(0).clone()
        kept[:, : max(5 - rank, 0)] = 0
        torch.testing.assert_close(factor @ factor.mT, vectors * kept[:, None] @ vectors.mT)


def test_the_polar_factor_has_orthonormal_rows_and_is_nearest() -> None:
    matrix = random(2, 3, 6)
    found = polar_factor(matrix)
    torch.testing.assert_close(found @ found.mT, torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    other = polar_factor(random(2, 3, 6, seed=1))
    assert ((matrix - found).square().sum((1, 2)) < (matrix - other).square().sum((1, 2))).all()


@pytest.mark.parametrize("lowest", [None, -0.4])
@pytest.mark.parametrize("rank", [2, 3, 4, 6])
def test_derivatives_of_what_depends_on_the_square_alone_are_those_of_differences(
    rank: int, lowest: float | None
) -> None:
    """Of matrices of full rank, of one that is not positive, and where the factor's rank cuts something off."""
    half, (_, axes) = random(2, 4, 4, seed=2), torch.linalg.eigh(random(2, 4, 4, seed=9) + random(2, 4, 4, seed=9).mT)
    start = (half @ half.mT + 0.1 * torch.eye(4, dtype=torch.float64)).requires_grad_()
    if lowest is not None:  # errors leave eigenvalues below 0
        values = torch.tensor([lowest, 0.8, 1.7, 3.0], dtype=torch.float64)
        start = (axes * values @ axes.mT).requires_grad_()
    weights, vectors = random(2, 4, 4, seed=3), random(2, rank, 5, seed=4)
    structure = random(2, 4, 5, seed=5)

    def squared(matrix: torch.Tensor) -> torch.Tensor:
        factor = factor_of((matrix + matrix.mT) / 2, rank)
        return (factor @ factor.mT * weights).sum()

    def nearest(matrix: torch.Tensor) -> torch.Tensor:
        factor = factor_of((matrix + matrix.mT) / 2, min(rank, 4))
        return (factor @ polar_factor(factor.mT @ structure) * vectors.sum() * structure).sum()

    for function in (squared, nearest):
        (found,) = torch.autograd.grad(function(start), start)
        for way in (random(2, 4, 4, seed=6), random(2, 4, 4, seed=7)):
            way = way @ way.mT
            step = 1e-5
            with torch.no_grad():
                wanted = (function(start + step * way) - function(start - step * way)) / (2 * step)
            assert float((found * way).sum()) == pytest.approx(float(wanted), rel=1e-3)


def test_derivatives_of_the_polar_factor_are_those_of_differences() -> None:
    assert torch.autograd.gradcheck(
        lambda m: polar_factor(m), (random(2, 3, 5, seed=8).requires_grad_(),), atol=1e-4, rtol=1e-3
    )


def test_derivatives_stay_finite_where_nothing_is_known() -> None:
    matrix = torch.zeros((1, 4, 4), dtype=torch.float64, requires_grad=True)
    factor = factor_of(matrix, 3)
    (polar_factor(factor.mT @ random(1, 4, 6)) * factor.sum()).sum().backward()
    assert matrix.grad is not None
    assert torch.isfinite(matrix.grad).all()
    tied = torch.eye(4, dtype=torch.float64)[None].requires_grad_()  # eigenvalues alike, and cut off among them
    (factor_of(tied, 2) * random(1, 4, 2)).sum().backward()
    assert tied.grad is not None
    assert torch.isfinite(tied.grad).all()
    assert float(tied.grad.norm()) > 0
