"""Predictions for more particles, against half maps that have them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clarice.metrics.predicted_fsc import (
    fitted_fall_off,
    fsc_of_more_particles,
    predicted_resolutions,
    spectral_snr,
)
from clarice.metrics.shells import fsc, half_shells, resolution_at, shell_frequencies

BOX, PIXEL_ANGSTROM = 48, 1.5
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
B_FACTOR_ANGSTROM2 = 150.0


def half_maps(particles: float, seed: int, b_factor: float = B_FACTOR_ANGSTROM2) -> tuple[np.ndarray, np.ndarray]:
    """Signal that falls as exp(−B k² / 4), the same for all seeds, and white noise over √particles."""

    def white(number: int) -> np.ndarray:
        return torch.randn((BOX,) * 3, generator=torch.Generator().manual_seed(number), dtype=torch.float64).numpy()

    shells, _ = half_shells(BOX, 3)
    frequency = shells / (BOX * PIXEL_ANGSTROM)
    falling = np.fft.rfftn(white(0)) * np.exp(-b_factor / 4 * frequency**2)
    signal = np.fft.irfftn(falling, s=(BOX,) * 3, axes=(0, 1, 2))
    first, second = (signal + white(seed + offset) / math.sqrt(particles / 2) for offset in (1, 2))
    return first, second


def error_of(curve: np.ndarray) -> np.ndarray:
    """Standard error of an FSC (S,): (1 − F²) / √n with n independent elements of a shell."""
    shells, multiplicity = half_shells(BOX, 3)
    count = np.bincount(shells.ravel(), multiplicity.ravel() / 2)[: len(curve)]
    return (1 - curve**2) / np.sqrt(count)


def test_twice_the_particles_have_the_fsc_foretold() -> None:
    less, more = (fsc(*half_maps(particles, seed)) for particles, seed in ((40.0, 10), (80.0, 20)))
    foretold = fsc_of_more_particles(less, 2.0)
    used = (np.arange(len(less)) >= 3) & (less > 0.1)
    # d F' / d F of the prediction carries the error over.
    slope = 2 / (1 + less) ** 2
    error = np.hypot(slope * error_of(less), error_of(more))
    z = (foretold - more)[used] / error[used]
    assert used.sum() > 12
    assert np.abs(z).max() < 4
    assert 0.4 < z.std() < 1.7
    # The curve of half as many is another one, by far more than the error.
    assert (np.abs(less - more)[used] / error[used]).max() > 8


def test_the_ratio_one_changes_nothing_and_ratios_multiply() -> None:
    curve = np.clip(fsc(*half_maps(40.0, 10)), 0, 1)
    assert fsc_of_more_particles(curve, 1.0) == pytest.approx(curve)
    twice = fsc_of_more_particles(fsc_of_more_particles(curve, 2.0), 3.0)
    assert twice == pytest.approx(fsc_of_more_particles(curve, 6.0))
    known = curve < 1
    assert spectral_snr(fsc_of_more_particles(curve, 3.0))[known] == pytest.approx(3 * spectral_snr(curve)[known])
    assert np.isinf(spectral_snr(np.ones(3))).all()
    with pytest.raises(ValueError, match="above 0"):
        fsc_of_more_particles(curve, 0.0)


def test_the_b_factor_is_that_of_the_signal() -> None:
    slopes = []
    for seed in (10, 20, 30, 40):
        found = fitted_fall_off(fsc(*half_maps(40.0, seed)), PIXEL_ANGSTROM, BOX)
        assert found is not None
        assert found.b_factor_angstrom2 is not None
        slopes.append((found.b_factor_angstrom2, 2 * found.error_angstrom2))
    mean = np.mean([value for value, _ in slopes])
    assert mean == pytest.approx(B_FACTOR_ANGSTROM2, abs=4 * np.mean([error for _, error in slopes]) / 2)
    assert mean == pytest.approx(B_FACTOR_ANGSTROM2, rel=0.1)


def test_resolutions_foretold_are_those_measured() -> None:
    curve = fsc(*half_maps(40.0, 10))
    fall_off = fitted_fall_off(curve, PIXEL_ANGSTROM, BOX)
    foretold = predicted_resolutions(curve, RATIOS, PIXEL_ANGSTROM, BOX, fall_off=fall_off)
    for one in foretold:
        measured = fsc(*half_maps(40.0 * one.ratio, 50))
        assert one.resolution_angstrom == pytest.approx(resolution_at(measured, 0.143, PIXEL_ANGSTROM, BOX), rel=0.05)
    now = next(one for one in foretold if one.ratio == 1)
    assert now.resolution_angstrom == resolution_at(curve, 0.143, PIXEL_ANGSTROM, BOX)
    assert all((one.error_angstrom > 0) == (one.ratio > 1 and not one.limited) for one in foretold)


@pytest.mark.parametrize("particles", [4.0, 40.0, 400.0])
def test_more_particles_are_never_worse(particles: float) -> None:
    curve = fsc(*half_maps(particles, 10))
    fall_off = fitted_fall_off(curve, PIXEL_ANGSTROM, BOX)
    ratios = np.geomspace(0.05, 50, 40).tolist()
    known = [
        one.resolution_angstrom
        for one in predicted_resolutions(curve, ratios, PIXEL_ANGSTROM, BOX, fall_off=fall_off)
        if one.resolution_angstrom is not None
    ]
    assert (np.diff(known) <= 1e-9).all()
    assert known[-1] >= 2 * PIXEL_ANGSTROM


def test_logarithm_of_particles_is_a_line_in_the_inverse_square_of_the_resolution() -> None:
    """Rosenthal and Henderson's law: of a curve without noise, the slope is B / 2."""
    frequency = shell_frequencies(BOX, PIXEL_ANGSTROM)
    snr = 40 * np.exp(-B_FACTOR_ANGSTROM2 / 2 * frequency**2)
    fall_off = fitted_fall_off(snr / (1 + snr), PIXEL_ANGSTROM, BOX)
    assert fall_off is not None
    assert fall_off.b_factor_angstrom2 == pytest.approx(B_FACTOR_ANGSTROM2, rel=1e-3)
    found = predicted_resolutions(snr / (1 + snr), (1.0, 2.0), PIXEL_ANGSTROM, BOX, fall_off=fall_off)
    first, second = (1 / (one.resolution_angstrom or 0.0) ** 2 for one in found)
    assert math.log(2) / (second - first) == pytest.approx(B_FACTOR_ANGSTROM2 / 2, rel=1e-3)


def test_a_curve_that_stays_up_is_limited_by_the_box() -> None:
    curve = np.full(BOX // 2 + 1, 0.6)
    assert fitted_fall_off(curve, PIXEL_ANGSTROM, BOX) is None
    found = {one.ratio: one for one in predicted_resolutions(curve, (0.05, 1.0, 10.0), PIXEL_ANGSTROM, BOX)}
    assert not found[0.05].limited
    assert found[1.0].limited
    assert found[10.0].limited
    assert found[10.0].resolution_angstrom == 2 * PIXEL_ANGSTROM
    short = predicted_resolutions(curve, (1.0,), PIXEL_ANGSTROM, BOX, last_shell=20)
    assert short[0].limited
    assert short[0].resolution_angstrom == pytest.approx(BOX * PIXEL_ANGSTROM / 20)


def test_noise_foretells_nothing() -> None:
    rng = np.random.default_rng(2)
    curve = np.append(1.0, rng.normal(0, 0.05, BOX // 2))
    assert fitted_fall_off(curve, PIXEL_ANGSTROM, BOX) is None
    found = predicted_resolutions(curve, RATIOS, PIXEL_ANGSTROM, BOX)
    assert [one.resolution_angstrom is None for one in found] == [False] * 3 + [True] * 3
