"""The grid on the sphere gives harmonics their values, values their harmonics, and products theirs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from clarice.geometry.harmonics import real_harmonics, sphere_nodes
from clarice.geometry.so3 import random_rotations
from clarice.geometry.sphere_products import SphereGrid
from clarice.geometry.wigner import turned, wigner_matrices


def coefficients(degree: int, seed: int) -> Tensor:
    return torch.randn((2, (degree + 1) ** 2), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("degree", [0, 1, 4, 7])
def test_values_are_sums_of_harmonics(degree: int) -> None:
    grid = SphereGrid(degree)
    z = np.polynomial.legendre.leggauss(grid.latitudes)[0]
    azimuth = 2 * np.pi * np.arange(grid.meridians) / grid.meridians
    flat = np.sqrt(1 - z**2)[:, None, None] * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)
    points = np.concatenate([flat, np.broadcast_to(z[:, None, None], (*flat.shape[:2], 1))], axis=-1)
    given = coefficients(degree, 1)
    expected = torch.einsum("tpn,bn->btp", torch.from_numpy(real_harmonics(points, degree)).float(), given)
    assert torch.allclose(grid.values(given), expected, atol=1e-5)
    assert torch.allclose(grid.coefficients(grid.values(given)), given, atol=1e-5)


@pytest.mark.parametrize("degree", [1, 4, 7])
def test_products_are_those_of_a_much_finer_quadrature(degree: int) -> None:
    first, second = coefficients(degree, 1), coefficients(degree, 2)
    nodes, weights = sphere_nodes(4 * degree)
    harmonics = torch.from_numpy(real_harmonics(nodes, degree))
    values = (first.double() @ harmonics.T) * (second.double() @ harmonics.T)
    expected = values @ (harmonics * torch.from_numpy(weights)[:, None])
    assert torch.allclose(SphereGrid(degree).product(first, second).double(), expected, atol=2e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_product_of_turned_functions_is_the_turned_product(sign: float) -> None:
    degree = 6
    grid = SphereGrid(degree)
    rotation = sign * random_rotations(1, torch.Generator().manual_seed(3))
    matrices = [matrix[0] for matrix in wigner_matrices(rotation, degree)]
    first, second = coefficients(degree, 1).T, coefficients(degree, 2).T
    before = grid.product(turned(first, matrices).T.float(), turned(second, matrices).T.float())
    after = turned(grid.product(first.T, second.T).T, matrices).T
    assert torch.allclose(before, after.float(), atol=1e-5)
