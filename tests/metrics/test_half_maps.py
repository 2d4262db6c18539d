"""Half maps under a mask: what the mask makes agree is taken off, and noise stays noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.metrics.half_maps import half_map_fsc, last_filled_shell, noise_null, randomise_phases
from clarice.metrics.masks import low_pass
from clarice.metrics.shells import fsc


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


@pytest.mark.parametrize("box", [15, 16])
def test_the_last_filled_shell_is_where_either_half_ends(box):
    volume = np.random.default_rng(6).normal(size=(box, box, box))
    frequency = np.fft.fftfreq(box, 1 / box)
    radius = np.sqrt(frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + frequency**2)
    ended = np.fft.ifftn(np.where(radius <= 5, np.fft.fftn(volume), 0)).real
    assert last_filled_shell(volume, volume) == box // 2
    assert last_filled_shell(volume, ended) == last_filled_shell(ended.astype(np.float32), volume) == 5
    assert last_filled_shell(volume, np.zeros_like(volume)) == 0
