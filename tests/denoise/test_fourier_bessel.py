"""The Fourier–Bessel basis against plain inner products, and its physics: orthonormal, white, steerable."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import jv

from clarice.denoise.fourier_bessel import FourierBessel, fourier_bessel
from clarice.geometry.fourier import radius_grid
from clarice.geometry.nufft import fourier_at


def noise(count: int, box: int, seed: int = 1) -> torch.Tensor:
    return torch.randn((count, box, box), generator=torch.Generator().manual_seed(seed))


def plain_function(basis: FourierBessel, column: int) -> np.ndarray:
    """The basis function of a column from its formula, pixel by pixel."""
    block = next(item for item in reversed(basis.blocks) if item.start <= column)
    phase, k = divmod(column - block.start, block.count)
    radius, centre = basis.box / 2, basis.box // 2
    zero = block.radii[k] * 2 * math.pi * radius
    values = np.zeros((basis.box, basis.box))
    for row in range(basis.box):
        for col in range(basis.box):
            x, y = col - centre, row - centre
            rho, theta = math.hypot(x, y), math.atan2(y, x)
            if rho >= radius:
                continue
            angular = 1.0 if block.m == 0 else math.sqrt(2) * (math.sin, math.cos)[phase == 0](block.m * theta)
            norm = math.sqrt(math.pi) * radius * abs(jv(block.m + 1, zero))
            values[row, col] = jv(block.m, zero * rho / radius) / norm * angular
    return values


@pytest.mark.parametrize("box", [20, 21])
def test_analysis_is_the_inner_product_with_the_plain_functions(box: int) -> None:
    basis = fourier_bessel(box, 0.4)
    images = noise(2, box)
    coefficients = basis.analyse(images)
    for column in range(0, basis.count, 7):
        expected = (images.numpy() * plain_function(basis, column)).sum(axis=(1, 2))
        assert np.allclose(coefficients[:, column], expected, atol=1e-4)


@pytest.mark.parametrize("box", [32, 33])
def test_synthesis_is_the_adjoint_of_analysis(box: int) -> None:
    basis = fourier_bessel(box, 0.5)
    images = noise(3, box)
    coefficients = torch.randn((3, basis.count), generator=torch.Generator().manual_seed(2))
    left = (basis.synthesise(coefficients) * images).sum()
    assert float(left) == pytest.approx(float((coefficients * basis.analyse(images)).sum()), rel=1e-4)


@pytest.mark.parametrize("box", [64, 65])
def test_functions_within_the_band_are_orthonormal(box: int) -> None:
    basis = fourier_bessel(box, 0.35)
    coefficients = torch.randn((4, basis.count), generator=torch.Generator().manual_seed(3))
    again = basis.analyse(basis.synthesise(coefficients))
    assert float((again - coefficients).norm() / coefficients.norm()) < 0.02


def test_white_noise_keeps_its_variance() -> None:
    coefficients = fourier_bessel(48, 0.4).analyse(noise(400, 48))
    assert float(coefficients.square().mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("box", [32, 33])
def test_a_quarter_turn_rotates_cosine_into_sine(box: int) -> None:
    basis = fourier_bessel(box, 0.4)
    images = noise(2, box) * (radius_grid(box) < box / 2 - 1)
    symmetric = images[:, 1:, 1:] if box % 2 == 0 else images
    # x towards y: the pixel at (x, y) from the centre goes to (−y, x).
    turned = torch.zeros_like(images)
    turned[:, -symmetric.shape[1] :, -symmetric.shape[2] :] = symmetric.transpose(1, 2).flip(2)
    before, after = basis.analyse(images), basis.analyse(turned)
    for block in basis.blocks[1:6]:
        cosine, sine = block.of(before).unbind(1)
        angle = block.m * math.pi / 2
        expected = math.cos(angle) * cosine - math.sin(angle) * sine
        assert torch.allclose(block.of(after)[:, 0], expected, atol=1e-3)


def test_a_coefficient_is_the_ring_of_the_fourier_transform() -> None:
    basis = fourier_bessel(48, 0.3)
    axis = torch.arange(48) - 24.0
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.tensor([[4.0, -3.0], [-6.0, 2.0], [1.0, 7.0]])[:, :, None, None]
    images = torch.exp(-((x - places[:, 0]) ** 2 + (y - places[:, 1]) ** 2) / 18)
    theta = torch.arange(64) * 2 * math.pi / 64
    for m in (1, 2, 5):
        block = basis.blocks[m]
        coefficients = block.of(basis.analyse(images))
        for k in range(block.count // 2):
            ring = block.radii[k] * torch.stack([torch.cos(theta), torch.sin(theta)], dim=1)
            harmonic = (fourier_at(images, ring.float()) * torch.exp(-1j * m * theta)).mean(dim=1)
            # Cosine and sine are its real and imaginary part, up to one constant for all images.
            own = torch.complex(coefficients[:, 0, k], -coefficients[:, 1, k])
            constant = (harmonic * own.conj()).sum() / own.abs().square().sum()
            assert float((harmonic - constant * own).norm() / harmonic.norm()) < 0.02
