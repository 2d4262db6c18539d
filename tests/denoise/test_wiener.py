"""The radial Wiener filter: its spectrum against the truth's, and its optimality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clarice.denoise.registry import denoise_all, get_denoiser
from clarice.denoise.wiener import signal_spectrum, wiener_filtered
from clarice.geometry.fourier import centred_fft2, shell_mean
from clarice.metrics.image import relative_mse
from clarice.physics.noisy_set import white_set
from clarice.physics.simulate import SimulatedSet


def true_spectrum(simulated: SimulatedSet) -> torch.Tensor:
    power = centred_fft2(torch.from_numpy(simulated.clean)).abs().square().mean(dim=0)
    return shell_mean(power, 2) / simulated.clean.shape[-1] ** 2


def test_the_spectrum_is_that_of_the_clean_images(simulated: SimulatedSet) -> None:
    estimate = signal_spectrum(white_set(simulated.particles))
    truth = true_spectrum(simulated).double()
    strong = truth > 0.3
    assert torch.allclose(estimate[strong], truth[strong], rtol=0.15)


def test_a_much_weaker_or_stronger_filter_does_worse(simulated: SimulatedSet) -> None:
    noisy = white_set(simulated.particles)
    rows = np.arange(len(noisy))
    spectrum = signal_spectrum(noisy)
    errors = {
        factor: relative_mse(wiener_filtered(noisy, rows, factor * spectrum).numpy(), simulated.clean)
        for factor in (0.3, 1.0, 4.0)
    }
    assert errors[1.0] == min(errors.values())


def test_the_filter_is_the_formula_component_by_component(simulated: SimulatedSet) -> None:
    noisy = white_set(simulated.particles)
    spectrum = torch.linspace(5, 0.1, noisy.box // 2 + 1)
    image = torch.fft.rfft2(noisy.images(np.array([3])))[0]
    filtered = torch.fft.rfft2(wiener_filtered(noisy, np.array([3]), spectrum))[0]
    transfer = noisy.transfer_of(np.array([3]))[0]
    for row, column in ((0, 4), (5, 0), (38, 7)):
        radius = float(np.hypot(min(row, 40 - row), column))
        power = float(np.interp(radius, np.arange(21), spectrum.numpy()))
        gain = float(transfer[row, column]) * power / (float(transfer[row, column]) ** 2 * power + 1)
        assert complex(filtered[row, column]) == pytest.approx(complex(image[row, column]) * gain, rel=1e-3)


def test_whitening_is_taken_back(simulated: SimulatedSet) -> None:
    plain = white_set(simulated.particles)
    doubled = replace(plain, whitening=2 * plain.whitening)
    images = denoise_all(get_denoiser("wiener")(doubled), len(plain), plain.box)
    # The same images under twice the transfer mean half the signal.
    single = denoise_all(get_denoiser("wiener")(plain), len(plain), plain.box)
    assert np.allclose(2 * images, single, atol=1e-3 * float(np.abs(single).max()))
