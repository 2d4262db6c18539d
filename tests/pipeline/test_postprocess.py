"""What is made of a map and its halves, and what is said where views are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.metrics.filters import cut_to, filtered, noise

from clarice.metrics.half_maps import half_map_fsc
from clarice.metrics.masks import soft_sphere
from clarice.metrics.sharpening import sharpened
from clarice.pipeline.postprocess import DIRECTIONS, postprocessed

BOX, PIXEL, LAST = 32, 2.0, 14
MASK = np.asarray(soft_sphere(BOX, 9.0, 3.0), dtype=np.float32)


def halves_of(signal: np.ndarray, measured: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Half maps of a particle within the mask, empty beyond LAST and where nothing was `measured`."""
    halves = [cut_to(signal * MASK + noise(BOX, seed), LAST).astype(np.float32) for seed in (2, 3)]
    first, second = halves if measured is None else [filtered(half, measured).astype(np.float32) for half in halves]
    return first, second


def curve_of(halves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return half_map_fsc(*halves, MASK, torch.Generator().manual_seed(1), LAST).corrected


@pytest.fixture(scope="module")
def even() -> tuple[np.ndarray, np.ndarray]:
    return halves_of(6 * cut_to(noise(BOX), 10))


def test_record_and_maps_belong_together(even: tuple[np.ndarray, np.ndarray]) -> None:
    curve = curve_of(even)
    made = postprocessed(even, MASK, PIXEL, curve, LAST, b_factor=30.0)
    np.testing.assert_allclose(made.sharpened, sharpened((even[0] + even[1]) / 2, PIXEL, curve, 30.0))
    assert (made.record["b_factor_angstrom2"], made.record["b_factor_is"]) == (30.0, "given")
    local = made.record["local_resolution"]
    assert BOX * PIXEL / LAST <= local["best_5_percent_angstrom"] <= local["median_angstrom"]
    assert BOX * PIXEL / local["median_angstrom"] == pytest.approx(10, abs=2)
    direction = made.record["by_direction"]
    assert len(direction["directions"]) == len(direction["resolution_angstrom"]) == DIRECTIONS
    assert direction["worst_over_best"] < 1.3
    assert made.warning is None


def test_a_fit_needs_detail_beyond_ten_angstrom(even: tuple[np.ndarray, np.ndarray]) -> None:
    curve = np.ones(BOX // 2 + 1)
    assert postprocessed(even, MASK, 6.0, curve, LAST).record["b_factor_is"] == "too coarse to fit"
    assert postprocessed(even, MASK, PIXEL, curve, LAST).record["b_factor_is"] == "fitted beyond 10 Å"


@pytest.mark.parametrize("filled_with_noise", [True, False])
def test_missing_views_are_warned_of(filled_with_noise: bool) -> None:
    """Whether halves hold noise where views are missing, or nothing, which a mask fills alike in both."""
    frequency = np.fft.fftfreq(BOX, 1 / BOX)
    z, y, x = np.meshgrid(frequency, frequency, frequency[: BOX // 2 + 1], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    missing = (np.abs(z) > np.cos(np.deg2rad(50)) * radius) & (radius > 4)
    signal = 6 * cut_to(noise(BOX), 12)
    halves = halves_of(filtered(signal, ~missing)) if filled_with_noise else halves_of(signal, ~missing)
    made = postprocessed(halves, MASK, PIXEL, curve_of(halves), LAST)
    direction = made.record["by_direction"]
    worst = direction["directions"][int(np.argmax(direction["resolution_angstrom"]))]
    assert abs(worst[2]) > 0.8
    assert direction["worst_over_best"] > 1.5
    assert made.warning is not None
    assert f"{direction['worst_angstrom']:.1f} Å in their worst directions" in made.warning
