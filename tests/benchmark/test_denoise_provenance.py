"""Sources and foretold errors are judged against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.benchmark.denoise_provenance import foretold_over_actual, judge_sources
from clarice.denoise.notes import Sources

VIEW = np.repeat(np.arange(3), 6)
ANGLE = np.linspace(0, 20, 18) % (2 * np.pi)


def sources(weight_of_same: float, off_deg: float = 0.0) -> Sources:
    """Every other image is a source; those of the same view share `weight_of_same`, the others the rest of 0.8."""
    row = np.array([[j for j in range(18) if j != i] for i in range(18)])
    same = VIEW[row] == VIEW[:, None]
    weight = np.where(same, weight_of_same / 5, (0.8 - weight_of_same) / 12)
    angle = np.rad2deg(ANGLE[:, None] - ANGLE[row]) + off_deg
    return Sources(row, angle, weight, np.full(18, 0.2))


def test_attention_to_the_same_view_at_the_right_angle_is_perfect() -> None:
    figures = judge_sources(sources(0.8), VIEW, ANGLE)
    assert figures == pytest.approx({"purity": 1.0, "ari": 1.0, "angle_error_deg": 0.0}, abs=1e-6)


def test_attention_that_strays_is_seen() -> None:
    figures = judge_sources(sources(0.4, off_deg=-7.0), VIEW, ANGLE)
    assert figures["purity"] == pytest.approx(0.5)
    assert figures["angle_error_deg"] == pytest.approx(7.0)
    assert figures["ari"] == 1.0


def test_missing_sources_and_lone_views_say_nothing() -> None:
    none = Sources(np.full((4, 2), -1), np.zeros((4, 2)), np.zeros((4, 2)), np.ones(4))
    assert judge_sources(none, np.zeros(4, dtype=np.int64), np.zeros(4)) == {}


@pytest.mark.parametrize("box", [16, 17])
def test_white_errors_foretold_rightly_have_ratio_one(box: int) -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(size=(40, box, box)).astype(np.float32)
    images = clean + 0.5 * rng.normal(size=clean.shape).astype(np.float32)
    by_shell = np.full((40, box // 2 + 1), 0.25)
    assert foretold_over_actual(by_shell, images, clean) == pytest.approx(1.0, abs=0.05)
    assert foretold_over_actual(2 * by_shell, images, clean) == pytest.approx(2.0, abs=0.1)
