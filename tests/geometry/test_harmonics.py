"""Spherical harmonics against quadrature, the volume's own transform and its slices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn
from tests.geometry.blobs import seeded

from clarice.geometry import harmonics, so3
from clarice.geometry.harmonics import BallBasis
from clarice.geometry.nufft import fourier_at
from clarice.geometry.polar import FourierRings
from clarice.geometry.slices import project


@pytest.mark.parametrize("degree", [0, 1, 7])
def test_harmonics_are_orthonormal(degree: int) -> None:
    nodes, weights = harmonics.sphere_nodes(degree)
    values = harmonics.real_harmonics(nodes, degree)
    assert weights.sum() == pytest.approx(4 * math.pi)
    np.testing.assert_allclose(values.T @ (weights[:, None] * values), np.eye((degree + 1) ** 2), atol=1e-12)


def test_first_harmonics_are_the_coordinates() -> None:
    nodes, _ = harmonics.sphere_nodes(3)
    values = harmonics.real_harmonics(nodes, 1)
    expected = math.sqrt(3 / (4 * math.pi)) * nodes[:, [1, 2, 0]]
    np.testing.assert_allclose(values[:, 1:], expected, atol=1e-12)


def test_degrees_are_2l_plus_1_wide() -> None:
    assert [part.shape[-1] for part in harmonics.degrees_of(torch.zeros(4, 25))] == [1, 3, 5, 7, 9]


@pytest.fixture(scope="module", params=[32, 33])
def ball(request: pytest.FixtureRequest) -> BallBasis:
    return BallBasis(request.param, 10.0, 7.0)


@pytest.fixture(scope="module")
def smooth(ball: BallBasis) -> torch.Tensor:
    """Coefficients that fall off with frequency, as a molecule's do."""
    frequency = torch.cat([torch.from_numpy(np.repeat(u, 2 * l + 1)) for l, u in enumerate(ball.zeros)])  # noqa: E741
    return torch.randn(ball.size, generator=seeded(), dtype=torch.float64) * torch.exp(-((frequency / 8) ** 2))


def test_every_zero_within_the_limit_is_found(ball: BallBasis) -> None:
    limit = 2 * math.pi * ball.max_radius * ball.radius_px / ball.box
    fine = np.linspace(0.5, limit, 20001)
    for degree in range(ball.degree + 2):
        values = spherical_jn(degree, fine)
        changes = int((np.signbit(values[1:]) != np.signbit(values[:-1])).sum())
        assert changes == (len(ball.zeros[degree]) if degree <= ball.degree else 0)


def test_functions_are_orthonormal_over_voxels(ball: BallBasis) -> None:
    for index in (0, 5, ball.size // 2):
        one = torch.zeros(ball.size, dtype=torch.float64)
        one[index] = 1
        back = ball.of_volume(ball.to_volume(one))
        assert float((back - one).norm()) < 0.08


def test_transform_on_spheres_is_that_of_the_volume(ball: BallBasis, smooth: torch.Tensor) -> None:
    radii = (1.0, 2.5, 4.0)
    closed = ball.on_spheres(smooth, ball.transforms(radii))
    sampled = harmonics.sphere_coefficients(ball.to_volume(smooth), radii, ball.degree)
    assert float((closed - sampled).norm() / sampled.norm()) < 0.01


def test_sphere_coefficients_give_the_transform_back(ball: BallBasis, smooth: torch.Tensor) -> None:
    volume = ball.to_volume(smooth)
    degree = 12
    coefficients = harmonics.sphere_coefficients(volume, (3.0,), degree)
    directions = so3.sphere_grid(50)
    phases = np.concatenate([np.full(2 * l + 1, (-1j) ** l) for l in range(degree + 1)])  # noqa: E741
    values = (harmonics.real_harmonics(directions, degree) * phases) @ coefficients[:, 0].numpy()
    expected = fourier_at(volume, torch.from_numpy(3 * directions / ball.box).float()).numpy()
    np.testing.assert_allclose(values, expected, atol=2e-4 * np.abs(expected).max())


def test_slice_series_is_that_of_projections(ball: BallBasis, smooth: torch.Tensor) -> None:
    volume = ball.to_volume(smooth)
    rotations = so3.random_rotations(4, seeded())
    radii, orders, degree = (2.0, 5.0), 6, 16
    rings = FourierRings(ball.box, radii, 64).sample(project(volume, rotations))
    circle = torch.cat([rings, rings.conj()], dim=-1)
    expected = (torch.fft.fft(circle) / 64)[..., : orders + 1].transpose(1, 2)
    coefficients = harmonics.sphere_coefficients(volume, radii, degree)
    found = harmonics.slice_series(rotations, degree, orders) @ coefficients.to(torch.complex128)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4


def test_slices_see_degrees_of_their_own_parity_only() -> None:
    series = harmonics.slice_series(so3.random_rotations(3, seeded()), 5, 5)
    for m in range(6):
        for degree, part in enumerate(harmonics.degrees_of(series)):
            seen = degree >= m and (degree - m) % 2 == 0
            assert bool((part[:, m].abs() > 1e-12).any()) is seen


def test_a_ball_too_small_for_any_function_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no function"):
        _ = BallBasis(32, 1.0, 1.0).size
