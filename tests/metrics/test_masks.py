from __future__ import annotations

import numpy as np
import pytest

from clarice.core.errors import InputError
from clarice.metrics.masks import extent_px, low_pass, mask_from_map, soft_sphere


@pytest.mark.parametrize("box", [31, 32])
def test_soft_sphere_is_one_inside_and_falls_to_zero_over_its_edge(box):
    mask = soft_sphere(box, 8, 4)
    line = mask[box // 2, box // 2, box // 2 :]
    np.testing.assert_array_equal(line[:9], 1)
    assert line[10] == pytest.approx(0.5)
    np.testing.assert_array_equal(line[12:], 0)
    np.testing.assert_array_equal(soft_sphere(box, 8, 4, ndim=2), mask[box // 2])


def test_a_hard_edge_is_allowed():
    assert set(np.unique(soft_sphere(16, 5, 0))) == {0, 1}


@pytest.mark.parametrize("box", [24, 25])
def test_low_pass_halves_the_amplitude_at_its_cutoff(box):
    wave = np.cos(2 * np.pi * 3 * np.arange(box) / box) * np.ones((box, box, 1))
    np.testing.assert_allclose(low_pass(wave, box / 3), wave / 2, atol=1e-6)


def test_mask_covers_the_density_and_little_more(blob_map):
    volume = blob_map(box=48)
    noisy = volume + 0.2 * volume.max() * np.random.default_rng(0).normal(size=volume.shape)
    mask = mask_from_map(noisy)
    assert (volume * mask).sum() > 0.95 * volume.sum()
    assert 0.02 < mask.mean() < 0.3
    assert not mask[:8, :8, :8].any()


def test_a_map_without_density_gives_an_error_that_says_what_to_do():
    with pytest.raises(InputError, match="another threshold"):
        mask_from_map(np.zeros((16, 16, 16)))
    with pytest.raises(InputError, match="another threshold"):
        mask_from_map(soft_sphere(16, 4, 2), threshold=-1.0)


def test_extent_of_a_ball_is_its_diameter():
    ball = np.roll(soft_sphere(48, 10, 1), (2, -3, 1), (0, 1, 2))
    assert extent_px(ball) == pytest.approx(20, rel=0.15)
