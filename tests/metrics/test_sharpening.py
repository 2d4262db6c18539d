"""Sharpening: a known blur is found and undone, and nothing is raised that half maps do not vouch for."""

from __future__ import annotations

import numpy as np
import pytest
from tests.metrics.filters import cut_to, filtered, noise

from clarice.metrics.sharpening import guinier_b_factor, sharpened, truth_correlation
from clarice.metrics.shells import fsc, half_shells, resolution_at

PIXEL = 1.5


def blurred(volume: np.ndarray, b_factor: float) -> np.ndarray:
    box = volume.shape[-1]
    full, half = np.fft.fftfreq(box, PIXEL), np.fft.rfftfreq(box, PIXEL)
    squared = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    return filtered(volume, np.exp(-b_factor / 4 * squared))


@pytest.mark.parametrize("box", [48, 49])
def test_a_blur_is_found_and_undone(box: int) -> None:
    sharp = noise(box)
    blunt = blurred(sharp, 120.0)
    found = guinier_b_factor(blunt, PIXEL, np.ones(box // 2 + 1), 2 * PIXEL)
    assert found == pytest.approx(120.0, abs=3)
    again = sharpened(blunt, PIXEL, np.ones(box // 2 + 1), 120.0)
    sharp = cut_to(sharp, box // 2)
    # Shells have width: what is undone is the blur of each one's middle.
    assert np.linalg.norm(again - sharp) < 0.1 * np.linalg.norm(sharp)


def test_noise_of_the_halves_is_not_taken_for_detail() -> None:
    """The blur is that of the signal: where three quarters of the power are noise, it is not seen as such."""
    box = 64
    blunt = blurred(noise(box), 100.0)
    halves = [blunt + 0.25 * noise(box, seed) for seed in (2, 3)]
    mean, curve = (halves[0] + halves[1]) / 2, fsc(*halves)
    resolution = resolution_at(curve, 0.143, PIXEL, box)
    assert 3.1 < resolution < 3.6
    assert guinier_b_factor(mean, PIXEL, curve, resolution) == pytest.approx(100.0, abs=8)
    # Without the curve's weight it is told too weak.
    told = guinier_b_factor(mean, PIXEL, np.ones(box // 2 + 1), resolution)
    assert told is not None
    assert told < 90


def test_weights_end_where_the_curve_has_fallen() -> None:
    curve = [1, -0.1, 0.9, 0.5, 0.5, 0.1, 0.6]
    known = (2 / 3) ** 0.5
    fallen = (0.2 / 1.1) ** 0.5
    # The dip among the first shells is passed over, what agrees again beyond the fall is not trusted.
    found = truth_correlation(curve)
    np.testing.assert_allclose(found, [1, known, (1.8 / 1.9) ** 0.5, known, known, fallen / 2, 0])
    np.testing.assert_array_equal(truth_correlation(np.ones(9)), 1)
    np.testing.assert_array_equal(truth_correlation(np.zeros(9)), 0)


def test_shells_count_as_far_as_they_follow_the_truth() -> None:
    """The weights make the mean of two noisy halves the nearest to the truth that shell weights can make."""
    box, truth = 32, noise(32)
    halves = [truth + 1.3 * noise(box, seed) for seed in (2, 3)]
    mean = (halves[0] + halves[1]) / 2
    curve = fsc(*halves)
    assert curve[3:].min() > 0.15
    np.testing.assert_allclose(truth_correlation(curve)[4:], fsc(mean, truth)[4:], atol=0.09)
    weighed = sharpened(mean, PIXEL, curve)
    shells, _ = half_shells(box, 3)
    ratio = np.abs(np.fft.rfftn(weighed)) / np.abs(np.fft.rfftn(mean))
    for shell in (3, 9, 16):
        np.testing.assert_allclose(ratio[shells == shell], truth_correlation(curve)[shell], rtol=1e-3)
    assert np.abs(np.fft.rfftn(weighed))[shells > box // 2].max() < 1e-3


def test_no_b_factor_where_proteins_are_not_flat_yet() -> None:
    assert guinier_b_factor(noise(32), 5.0, np.ones(17), 10.0) is None
    assert guinier_b_factor(noise(96), 1.5, np.ones(49), 7.5) is None
    with pytest.raises(ValueError, match="does not belong"):
        sharpened(noise(32), PIXEL, np.ones(9))
