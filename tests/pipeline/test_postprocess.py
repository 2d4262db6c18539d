"""What is made of a map and its halves, and what is said where views are missing."""

from __future__ import annotations

import numpy as np
import pytest
from tests.metrics.filters import cut_to, filtered, noise

from clarice.metrics.sharpening import sharpened
from clarice.metrics.shells import fsc
from clarice.pipeline.postprocess import DIRECTIONS, postprocessed

BOX, PIXEL = 32, 2.0
MASK = np.ones((BOX,) * 3, dtype=np.float32)


def halves_of(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = ((signal + noise(BOX, seed)).astype(np.float32) for seed in (2, 3))
    return first, second


@pytest.fixture(scope="module")
def even() -> tuple[np.ndarray, np.ndarray]:
    return halves_of(4 * cut_to(noise(BOX), 10))


def test_record_and_maps_belong_together(even: tuple[np.ndarray, np.ndarray]) -> None:
    mean, curve = (even[0] + even[1]) / 2, fsc(*even)
    made = postprocessed(mean, even, MASK, PIXEL, curve, b_factor=30.0)
    np.testing.assert_allclose(made.sharpened, sharpened(mean, PIXEL, curve, 30.0))
    assert (made.record["b_factor_angstrom2"], made.record["b_factor_is"]) == (30.0, "given")
    local = made.record["local_resolution"]
    quantiles = np.quantile(made.local_resolution_angstrom, [0.05, 0.5, 0.95])
    np.testing.assert_allclose(
        quantiles, [local[f"{end}_angstrom"] for end in ("best_5_percent", "median", "worst_5_percent")]
    )
    direction = made.record["by_direction"]
    assert len(direction["directions"]) == len(direction["resolution_angstrom"]) == DIRECTIONS
    assert direction["worst_over_best"] < 1.2
    assert made.warning is None
    assert BOX * PIXEL / local["median_angstrom"] == pytest.approx(10, abs=2)


def test_a_fit_needs_detail_beyond_ten_angstrom(even: tuple[np.ndarray, np.ndarray]) -> None:
    mean, curve = (even[0] + even[1]) / 2, np.ones(BOX // 2 + 1)
    assert postprocessed(mean, even, MASK, 6.0, curve).record["b_factor_is"] == "too coarse to fit"
    assert postprocessed(mean, even, MASK, PIXEL, curve).record["b_factor_is"] == "fitted beyond 10 Å"


def test_missing_views_are_warned_of() -> None:
    frequency = np.fft.fftfreq(BOX, 1 / BOX)
    z, y, x = np.meshgrid(frequency, frequency, frequency[: BOX // 2 + 1], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    missing = (np.abs(z) > np.cos(np.deg2rad(50)) * radius) & (radius > 4)
    halves = halves_of(filtered(4 * cut_to(noise(BOX), 12), ~missing))
    made = postprocessed((halves[0] + halves[1]) / 2, halves, MASK, PIXEL, fsc(*halves))
    direction = made.record["by_direction"]
    worst = direction["directions"][int(np.argmax(direction["resolution_angstrom"]))]
    assert abs(worst[2]) > 0.8
    assert direction["worst_over_best"] > 2
    assert made.warning is not None
    assert f"{direction['worst_angstrom']:.1f} Å in their worst directions" in made.warning
