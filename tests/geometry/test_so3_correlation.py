"""The fast correlation over rotations is the slow one, and finds how one structure lies on another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from clarice.geometry.harmonics import degree_of_each
from clarice.geometry.so3 import random_rotations
from clarice.geometry.so3_correlation import RotationCorrelation
from clarice.geometry.wigner import mirrored, turned, wigner_matrices

DEGREE = 6


def structure(seed: int, columns: int = 3) -> Tensor:
    """Coefficients ((DEGREE + 1)², columns) that fall off with the degree."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(((DEGREE + 1) ** 2, columns), generator=generator, dtype=torch.float64)
    return values / (1 + torch.from_numpy(degree_of_each(DEGREE)))[:, None]


def turned_by(coefficients: Tensor, rotation: np.ndarray) -> Tensor:
    return turned(coefficients, [matrix[0] for matrix in wigner_matrices(rotation[None], DEGREE)])


def test_values_are_inner_products_with_the_turned_function() -> None:
    correlation = RotationCorrelation(DEGREE)
    first, second = structure(1), structure(2)
    values = correlation.over_rotations(first, second)
    rng = np.random.default_rng(1)
    for _ in range(10):
        place = tuple(int(rng.integers(size)) for size in values.shape)
        step = 2 * np.pi / correlation.around
        angles = [place[1] * step, correlation.tilts[place[0]], place[2] * step]
        rotation = np.asarray(Rotation.from_euler("ZYZ", angles).as_matrix())
        assert float(values[place]) == pytest.approx(float((first * turned_by(second, rotation)).sum()), abs=1e-10)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_turned_structure_is_laid_back_in_its_hand(mirror: bool) -> None:
    given = structure(3)
    rotation = random_rotations(1, torch.Generator().manual_seed(2))[0]
    moved = turned_by(mirrored(given) if mirror else given, rotation)
    found = RotationCorrelation(DEGREE).best(moved, given)
    assert found.mirror is mirror
    assert found.correlation == pytest.approx(1, abs=1e-10)
    assert np.allclose(found.rotation, rotation, atol=1e-6)
    assert torch.allclose(found.laid(given), moved, atol=1e-6)


def test_no_rotation_of_a_fine_search_is_better() -> None:
    """Of two structures that have nothing in common, where there is no one peak."""
    first, second = structure(4), structure(5)
    found = RotationCorrelation(DEGREE).best(first, second, hands=False)
    rotations = random_rotations(4_000, torch.Generator().manual_seed(3))
    matrices = wigner_matrices(rotations, DEGREE)
    searched = (first * turned(second, matrices)).sum(dim=(-2, -1)) / (first.norm() * second.norm())
    assert found.correlation >= float(searched.max())
    assert found.correlation == pytest.approx(float(searched.max()), rel=0.1)


def test_the_hand_is_left_alone_where_it_is_known() -> None:
    given = structure(6)
    found = RotationCorrelation(DEGREE).best(mirrored(given), given, hands=False)
    assert not found.mirror
    assert found.correlation < 0.99


def test_what_is_laid_on_is_differentiable() -> None:
    given = structure(7).requires_grad_()
    found = RotationCorrelation(DEGREE).best(structure(8), given)
    (structure(8) * found.laid(given)).sum().backward()
    back = turned_by(structure(8), found.rotation.T)
    assert given.grad is not None
    assert torch.allclose(given.grad, mirrored(back) if found.mirror else back)


def test_nothing_is_laid_on_nothing() -> None:
    nothing = torch.zeros_like(structure(1))
    assert RotationCorrelation(DEGREE).best(nothing, structure(1)).correlation == 0
