"""Images known up to an error: residuals in its units, and back."""

from __future__ import annotations

import pytest
import torch

from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.geometry.fourier import centred_fft2, shell_mean
from clarice.physics.noise import coloured_noise


def estimate(box: int, count: int = 3) -> GaussianEstimate:
    generator = torch.Generator().manual_seed(1)
    shells = torch.arange(box // 2 + 1)
    squared = (2 / (1 + shells) ** 1.5).expand(count, -1) * torch.tensor([1.0, 0.1, 10.0])[:count, None]
    return GaussianEstimate(torch.randn((count, box, box), generator=generator), squared)


@pytest.mark.parametrize("box", [24, 25])
def test_images_are_the_inverse_of_residuals(box: int) -> None:
    known = estimate(box)
    images = torch.randn((3, box, box), generator=torch.Generator().manual_seed(2))
    assert torch.allclose(known.images(known.residual(images)), images, atol=1e-4)
    assert torch.allclose(known.residual(known.mean), torch.zeros_like(images), atol=1e-6)


@pytest.mark.parametrize("box", [32, 33])
def test_an_error_of_the_power_expected_is_white_noise_of_variance_1(box: int) -> None:
    count = 400
    spectrum = estimate(box).squared_error[0]
    known = GaussianEstimate(torch.zeros((count, box, box)), spectrum.expand(count, -1))
    images = coloured_noise(count, box, spectrum, torch.Generator().manual_seed(3))
    power = shell_mean(centred_fft2(known.residual(images)).abs().square(), 2).mean(dim=0) / box**2
    assert torch.allclose(power, torch.ones_like(power), atol=0.25)  # shell 0 is one coefficient of 400 images
    assert torch.allclose(power[4:], torch.ones_like(power[4:]), atol=0.03)


def test_nothing_is_known_without_error() -> None:
    known = GaussianEstimate(torch.zeros((1, 8, 8)), torch.zeros((1, 5)))
    assert torch.isfinite(known.residual(torch.ones((1, 8, 8)))).all()


def test_each_image_is_repeated_in_a_row() -> None:
    known = estimate(24).repeated(2)
    assert torch.equal(known.mean[0], known.mean[1])
    assert torch.equal(known.squared_error[2], known.squared_error[3])
    assert not torch.equal(known.mean[1], known.mean[2])
