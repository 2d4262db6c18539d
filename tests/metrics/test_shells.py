from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.metrics.masks import low_pass
from clarice.metrics.shells import (
    frc,
    fsc,
    half_map_fsc,
    noise_null,
    randomise_phases,
    resolution_at,
    shell_frequencies,
)


def plain_shell_correlation(a, b):
    """Every Fourier element of the full centred transform, one at a time."""
    box = a.shape[-1]
    fa, fb = (np.fft.fftshift(np.fft.fftn(x)) for x in (a, b))
    cross, pa, pb = (np.zeros(box // 2 + 1) for _ in range(3))
    for index in np.ndindex(a.shape):
        shell = round(np.sqrt(sum((i - box // 2) ** 2 for i in index)))
        if shell <= box // 2:
            cross[shell] += (fa[index] * np.conj(fb[index])).real
            pa[shell] += abs(fa[index]) ** 2
            pb[shell] += abs(fb[index]) ** 2
    return cross / np.sqrt(pa * pb)


@pytest.mark.parametrize("box", [11, 12])
def test_correlations_equal_the_plain_loop(box):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, box, box, box))
    np.testing.assert_allclose(fsc(a, b), plain_shell_correlation(a, b), atol=1e-12)
    curves = frc(a, b)
    assert curves.shape == (box, box // 2 + 1)
    for row in range(box):
        np.testing.assert_allclose(curves[row], plain_shell_correlation(a[row], b[row]), atol=1e-12)


def test_fsc_of_equal_spectra_states_their_signal_to_noise_ratio():
    random = np.random.default_rng(1)
    signal, noise1, noise2 = random.normal(size=(3, 40, 40, 40))
    curve = fsc(signal + 0.5 * noise1, signal + 0.5 * noise2)
    assert np.median(curve[5:]) == pytest.approx(1 / 1.25, abs=0.02)


def test_fsc_ignores_scale_and_shells_without_power_are_zero():
    random = np.random.default_rng(2)
    a = random.normal(size=(16, 16, 16))
    np.testing.assert_allclose(fsc(a, -3 * a), -1)
    assert not fsc(a, np.zeros_like(a)).any()


def test_unequal_or_oblong_grids_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        fsc(np.zeros((8, 8, 8)), np.zeros((9, 9, 9)))
    with pytest.raises(ValueError, match="equal trailing axes"):
        frc(np.zeros((2, 8, 9)), np.zeros((2, 8, 9)))


def test_resolution_is_interpolated_at_the_first_crossing():
    curve = np.array([1, 1, 0.9, 0.4, 0.6, 0.1])
    assert resolution_at(curve, 0.5, 2.0, 10) == pytest.approx(20 / 2.8)
    assert resolution_at(curve, 0.05, 2.0, 10) == 4.0
    assert resolution_at(np.array([1, 0.1, 0, 0, 0, 0]), 0.5, 2.0, 10) == 20.0
    assert resolution_at(np.array([0, 1, 1, 0, 0, 0]), 0.5, 2.0, 10) == pytest.approx(20 / 2.5)


def test_shell_frequencies_end_at_nyquist_for_even_boxes():
    assert shell_frequencies(64, 2.0)[-1] == pytest.approx(0.25)
    assert shell_frequencies(65, 2.0)[-1] == pytest.approx(32 / 130)


@pytest.mark.parametrize("box", [15, 16])
def test_phase_randomisation_keeps_amplitudes_and_low_shells(box, generator):
    volume = np.random.default_rng(3).normal(size=(box, box, box))
    changed = randomise_phases(volume, 4, generator)
    before, after = np.fft.fftn(volume), np.fft.fftn(changed)
    np.testing.assert_allclose(np.abs(before), np.abs(after), atol=1e-8)
    curve = fsc(volume, changed)
    np.testing.assert_allclose(curve[:4], 1)
    assert np.abs(curve[5:]).max() < 0.4


def test_correction_removes_what_a_tight_mask_invents(blob_map, generator):
    """Half maps share low resolution only: a sharp mask lifts the rest of the curve, the correction not."""
    random = np.random.default_rng(4)
    signal = low_pass(blob_map(box=32), 8.0)
    mask = np.asarray(blob_map(box=32) > 0.3, dtype=float)
    plain, masked, corrected = [], [], []
    for _ in range(10):
        half1, half2 = (signal + 0.1 * signal.max() * random.normal(size=signal.shape) for _ in range(2))
        curves = half_map_fsc(half1, half2, mask, generator)
        kept = slice(0, curves.randomised_from)
        np.testing.assert_array_equal(curves.corrected[kept], curves.masked[kept])
        assert 2 < curves.randomised_from < 10
        plain.append(fsc(half1, half2, mask)[12:])
        masked.append(curves.masked[12:])
        corrected.append(curves.corrected[12:])
    assert np.mean(plain) > 0.1
    assert np.mean(masked) < 0.4 * np.mean(plain)
    assert abs(np.mean(corrected)) < 0.05


def test_shells_that_agree_again_do_not_switch_the_correction_off(blob_map, generator):
    """Half maps resampled by interpolation agree near Nyquist, where ghosts of their low shells lie."""
    random = np.random.default_rng(4)
    signal = low_pass(blob_map(box=32), 8.0)
    mask = np.asarray(blob_map(box=32) > 0.3, dtype=float)
    halves = [signal + 0.1 * signal.max() * random.normal(size=signal.shape) for _ in range(2)]
    plain = half_map_fsc(*halves, mask, generator)
    radius = np.sqrt(sum(np.fft.fftfreq(32, 1 / 32).reshape(np.roll([-1, 1, 1], i)) ** 2 for i in range(3)))
    ghost = np.fft.ifftn(np.where(np.abs(radius - 15) < 0.5, np.fft.fftn(random.normal(size=signal.shape)), 0)).real
    haunted = half_map_fsc(*(half + 3 * ghost for half in halves), mask, generator)
    assert haunted.unmasked[15] > 0.8 > 0.143 > plain.unmasked[15]
    assert haunted.randomised_from == plain.randomised_from
    # A dip in a nearly empty low shell does not end the agreement either.
    dip = np.fft.ifftn(np.where(np.abs(radius - 1) < 0.5, np.fft.fftn(signal), 0)).real
    dipped = half_map_fsc(halves[0] - 2 * dip, halves[1], mask, generator)
    assert dipped.unmasked[1] < 0.143
    assert dipped.randomised_from == plain.randomised_from


def test_nothing_is_told_beyond_the_last_shell_measured(blob_map, generator):
    volume = blob_map(box=24)
    curves = half_map_fsc(volume, volume, np.ones_like(volume), generator, last_shell=7)
    for curve in (curves.unmasked, curves.masked, curves.corrected):
        np.testing.assert_allclose(curve[1:8], 1)
        np.testing.assert_array_equal(curve[8:], 0)
    nothing = half_map_fsc(np.zeros((8, 8, 8)), np.zeros((8, 8, 8)), np.ones((8, 8, 8)), generator)
    assert np.isfinite(nothing.corrected).all()


def test_perfect_half_maps_have_nothing_to_correct(blob_map, generator):
    volume = blob_map(box=24)
    curves = half_map_fsc(volume, volume, np.ones_like(volume), generator)
    np.testing.assert_allclose(curves.corrected, 1)


def test_pure_noise_stays_below_the_null_curve_as_often_as_stated():
    curve = noise_null(20, torch.Generator().manual_seed(1), quantile=0.9, trials=60)
    random = np.random.default_rng(5)
    below = np.mean([fsc(*random.normal(size=(2, 20, 20, 20)))[2:] < curve[2:] for _ in range(40)])
    assert 0.83 < below < 0.96
    again = noise_null(20, torch.Generator().manual_seed(1), quantile=0.9, trials=60)
    np.testing.assert_array_equal(curve, again)
