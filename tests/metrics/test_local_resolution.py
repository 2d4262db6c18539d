"""Local resolution against windows laid one by one, and where it must differ from place to place."""

from __future__ import annotations

import numpy as np
import pytest
from tests.metrics.filters import cut_to, noise

from clarice.metrics.local_resolution import local_resolution, window_for
from clarice.metrics.masks import soft_sphere

BOX, PIXEL, WINDOW_PX = 48, 2.0, 14.0


@pytest.fixture(scope="module")
def halves() -> tuple[np.ndarray, np.ndarray]:
    """A signal of 6 shells on the left (low x) and of 14 on the right, under weak noise."""
    x = np.arange(BOX)
    right = 1 / (1 + np.exp(-(x - BOX / 2) / 2.0))
    coarse, fine = cut_to(noise(BOX), 6), cut_to(noise(BOX), 14)
    signal = coarse * (1 - right) + fine * right
    return signal + noise(BOX, 2, 0.4), signal + noise(BOX, 3, 0.4)


def test_each_side_has_its_own_resolution(halves: tuple[np.ndarray, np.ndarray]) -> None:
    found = local_resolution(*halves, PIXEL, WINDOW_PX)
    shells = BOX * PIXEL / found
    assert np.median(shells[..., 3:12]) == pytest.approx(7, abs=1.5)
    assert np.median(shells[..., -12:-3]) == pytest.approx(15, abs=2)
    assert found.dtype == np.float32


def test_it_agrees_with_windows_laid_one_by_one(halves: tuple[np.ndarray, np.ndarray]) -> None:
    """Slow reference: at a few voxels both maps are cut to bands, laid under one Gaussian window, and correlated."""
    found = local_resolution(*halves, PIXEL, WINDOW_PX)
    axis = np.arange(BOX)
    frequency = np.fft.fftfreq(BOX, 1 / BOX)
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(frequency, frequency, frequency, indexing="ij")))
    width = BOX / WINDOW_PX
    bands = []
    for shell in range(4, BOX // 2 + 1):
        away = radius - shell
        weight = np.where(np.abs(away) < width, np.cos(np.pi * away / (2 * width)) ** 2, 0)
        bands.append([np.fft.ifftn(np.fft.fftn(half) * weight).real for half in halves])
    for voxel in ((24, 24, 6), (10, 30, 24), (24, 20, 40)):
        squared = sum(
            np.minimum(np.abs(axis - at), BOX - np.abs(axis - at)).reshape(shape) ** 2.0
            for at, shape in zip(voxel, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
        )
        window = np.exp(-4 * np.log(2) * squared / WINDOW_PX**2)
        curve = [(window * a * b).sum() / np.sqrt((window * a * a).sum() * (window * b * b).sum()) for a, b in bands]
        below = next(index for index, value in enumerate(curve) if value < 0.5)
        before = curve[below - 1] if below else 1.0
        crossing = 4 + below - 1 + (before - 0.5) / (before - curve[below])
        assert BOX * PIXEL / found[voxel] == pytest.approx(max(crossing, width), abs=0.05)


def test_the_ends_of_the_scale() -> None:
    """Copies agree to two pixels everywhere, noise nowhere beyond the window's width by more than chance."""
    signal = noise(BOX)
    np.testing.assert_allclose(local_resolution(signal, signal, PIXEL, WINDOW_PX), 2 * PIXEL, rtol=1e-6)
    assert np.median(local_resolution(noise(BOX, 5), noise(BOX, 6), PIXEL, WINDOW_PX)) > 0.7 * WINDOW_PX * PIXEL
    empty = np.zeros((BOX, BOX, BOX))
    np.testing.assert_allclose(local_resolution(empty, empty, PIXEL, WINDOW_PX), WINDOW_PX * PIXEL, rtol=0.2)


def test_no_finer_than_was_measured(halves: tuple[np.ndarray, np.ndarray]) -> None:
    """Half maps that end at shell 9 agree wherever they hold anything: to shell 9, not to the bands that touch it."""
    ended = [cut_to(half, 9) for half in halves]
    found = local_resolution(ended[0], ended[0], PIXEL, WINDOW_PX, last_shell=9)
    np.testing.assert_allclose(found, BOX * PIXEL / 9, rtol=1e-6)
    assert local_resolution(*ended, PIXEL, WINDOW_PX, last_shell=9).min() >= BOX * PIXEL / 9 * (1 - 1e-6)


def test_an_odd_box_and_a_particle_in_the_middle() -> None:
    box = 33
    ball = soft_sphere(box, 8.0, 3.0)
    halves = [3 * cut_to(noise(box), 9) * ball + noise(box, seed) for seed in (2, 3)]
    shells = box * PIXEL / local_resolution(*halves, PIXEL, 10.0)
    assert np.median(shells[ball > 0.9]) > 8
    assert np.median(shells[ball == 0]) < np.median(shells[ball > 0.9]) - 2


def test_windows_fit_the_resolution_and_the_box() -> None:
    assert window_for(1.0, 64) == 10.0
    assert window_for(3.0, 64) == 18.0
    assert window_for(9.0, 64) == 32.0
    with pytest.raises(ValueError, match="does not fit"):
        local_resolution(noise(BOX), noise(BOX), PIXEL, BOX + 1)
    with pytest.raises(ValueError, match="cannot be compared"):
        local_resolution(noise(BOX), noise(BOX)[1:], PIXEL, WINDOW_PX)
