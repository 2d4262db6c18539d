"""Wigner's matrices do to coefficients what turning does to functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from clarice.geometry.harmonics import real_harmonics
from clarice.geometry.so3 import random_rotations
from clarice.geometry.wigner import generators, mirrored, turned, wigner_matrices

DEGREE = 7


def coefficients(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(((DEGREE + 1) ** 2, 2), generator=generator, dtype=torch.float64)


def rotations(count: int) -> np.ndarray:
    return random_rotations(count, torch.Generator().manual_seed(5))


def values(of: torch.Tensor, points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(real_harmonics(points, DEGREE)) @ of


def test_turned_coefficients_are_those_of_the_turned_function() -> None:
    points = np.random.default_rng(1).standard_normal((40, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    rotation = rotations(1)[0]
    found = values(turned(coefficients(), [m[0] for m in wigner_matrices(rotation[None], DEGREE)]), points)
    assert torch.allclose(found, values(coefficients(), points @ rotation), atol=1e-12)


def test_one_turn_after_another_is_the_product() -> None:
    first, second = rotations(2)
    both = wigner_matrices(np.stack([first, second, first @ second]), DEGREE)
    for matrix in both:
        assert torch.allclose(matrix[0] @ matrix[1], matrix[2], atol=1e-12)
        assert torch.allclose(matrix[0] @ matrix[0].T, torch.eye(len(matrix[0]), dtype=torch.float64), atol=1e-12)


def test_the_mirrored_function_is_that_at_opposite_points() -> None:
    points = np.random.default_rng(1).standard_normal((40, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert torch.allclose(values(mirrored(coefficients()), points), values(coefficients(), -points), atol=1e-12)
    inversion = [m[0] for m in wigner_matrices(-np.eye(3)[None], DEGREE)]
    assert torch.allclose(mirrored(coefficients()), turned(coefficients(), inversion), atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
def test_generators_turn_about_their_axes(axis: int) -> None:
    vector = np.zeros(3)
    vector[axis] = 0.7
    wanted = wigner_matrices(Rotation.from_rotvec(vector).as_matrix()[None], DEGREE)
    for matrix, generator in zip(wanted, generators(DEGREE), strict=True):
        assert torch.allclose(torch.linalg.matrix_exp(0.7 * generator[axis]), matrix[0], atol=1e-12)


def test_turning_is_differentiable() -> None:
    given = coefficients().requires_grad_()
    turned(given, [m[0] for m in wigner_matrices(rotations(1), DEGREE)]).square().sum().backward()
    assert given.grad is not None
    assert torch.allclose(given.grad, 2 * coefficients())  # an orthogonal map keeps the sum of squares
