"""Noise: its variance, its spectrum, the estimate of that spectrum, whitening, counts."""

from __future__ import annotations

import pytest
import torch

from clarice.core.errors import UsageError
from clarice.geometry.fourier import centred_fft2, radius_grid, shell_mean
from clarice.physics.noise import (
    coloured_noise,
    poisson_image,
    radial_noise_spectrum,
    radial_to_rfft_grid,
    typical_spectrum,
    white_noise,
    whiten,
    whitening_filter,
)


def generator(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measured_spectrum(images: torch.Tensor) -> torch.Tensor:
    """P(k) = E|F(k)|² / L², by definition."""
    box = images.shape[-1]
    return shell_mean((centred_fft2(images).abs() ** 2).mean(dim=0) / box**2, 2)


def sloped_spectrum(box: int) -> torch.Tensor:
    return 0.5 + 3 * torch.exp(-((torch.arange(box // 2 + 1) / (box / 6)) ** 2))


@pytest.mark.parametrize("box", [32, 33])
def test_coloured_noise_has_its_spectrum_as_variance_per_pixel(box: int) -> None:
    spectrum = sloped_spectrum(box)
    noise = coloured_noise(800, box, spectrum, generator())
    torch.testing.assert_close(measured_spectrum(noise)[2:], spectrum[2:], rtol=0.08, atol=0)


@pytest.mark.parametrize("box", [32, 33])
def test_the_typical_spectrum_gives_a_pixel_unit_variance(box: int) -> None:
    noise = coloured_noise(400, box, typical_spectrum(box, 3.0), generator())
    assert float(noise.var()) == pytest.approx(1.0, rel=0.03)
    spectrum = typical_spectrum(box, 3.0)
    assert float(spectrum[0] / spectrum[-1]) > 3


@pytest.mark.parametrize("box", [48, 49])
def test_the_spectrum_is_found_again_from_the_corners(box: int) -> None:
    spectrum = sloped_spectrum(box)
    images = coloured_noise(600, box, spectrum, generator())
    # What lies inside the disk must not matter.
    images = images + 5 * (radius_grid(box) < 15) + torch.randn((600, 1, 1), generator=generator(9))
    found = radial_noise_spectrum(images, 18)
    assert found.shape == (box // 2 + 1,)
    torch.testing.assert_close(found[2:], spectrum[2:], rtol=0.12, atol=0.03)


def test_white_noise_is_found_white() -> None:
    found = radial_noise_spectrum(3 * white_noise(500, 40, generator()), 16)
    torch.testing.assert_close(found, torch.full_like(found, 9.0), rtol=0.06, atol=0)


def test_a_disk_without_corners_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves no corners"):
        radial_noise_spectrum(torch.zeros(2, 16, 16), 30)


@pytest.mark.parametrize("box", [32, 33])
def test_whitening_makes_the_noise_white(box: int) -> None:
    spectrum = sloped_spectrum(box)
    white = whiten(coloured_noise(500, box, spectrum, generator()), spectrum)
    assert float(white.var()) == pytest.approx(1.0, rel=0.02)
    torch.testing.assert_close(measured_spectrum(white)[2:], torch.ones(box // 2 - 1), rtol=0.1, atol=0)
    torch.testing.assert_close(whitening_filter(spectrum) ** 2 * spectrum, torch.ones(box // 2 + 1))


@pytest.mark.parametrize("box", [8, 9])
def test_radial_values_land_on_their_radius(box: int) -> None:
    grid = radial_to_rfft_grid(torch.arange(box // 2 + 1, dtype=torch.float32), box)
    for y in range(box):
        for x in range(box // 2 + 1):
            radius = min((min(y, box - y) ** 2 + x**2) ** 0.5, box // 2)
            assert float(grid[y, x]) == pytest.approx(radius, abs=1e-5)


def test_counts_have_poisson_mean_and_variance() -> None:
    signal = torch.full((200, 32, 32), 0.4)
    image = poisson_image(signal, generator())
    assert float(image.mean()) == pytest.approx(0.4, abs=0.01)
    assert float(image.var()) == pytest.approx(1.4, abs=0.03)
    assert torch.equal((image + 1).round(), image + 1)
    assert float(poisson_image(torch.full((2, 8, 8), -3.0), generator()).max()) == -1
