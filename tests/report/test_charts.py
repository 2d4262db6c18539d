"""Charts: round ticks, true places, gaps where nothing is known, escaped words."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest

from clarice.report.charts import (
    Axis,
    Level,
    Series,
    histogram,
    line_chart,
    round_step,
    round_ticks,
    tick_text,
)


@pytest.mark.parametrize(
    ("rough", "step"),
    [(0.9, 1), (1.0, 1), (1.2, 2), (2.2, 2.5), (3, 5), (7, 10), (0.013, 0.02), (4e-9, 5e-9)],
)
def test_steps_are_round(rough: float, step: float) -> None:
    assert round_step(rough) == pytest.approx(step)


@pytest.mark.parametrize(
    "values", [[3.0, 3.0], [0.0, 0.0], [-2.0, 7.5], [1e6, 1.1e6], [np.nan, 4.0], [np.nan], [1e-8, 3e-8]]
)
@pytest.mark.parametrize("from_zero", [True, False])
def test_axes_hold_their_values(values: list[float], from_zero: bool) -> None:
    axis = Axis.spanning("x", np.array(values), from_zero)
    finite = [v for v in values if np.isfinite(v)]
    assert axis.low < axis.high
    assert all(axis.low <= value <= axis.high for value in finite)
    assert 2 <= len(axis.ticks) <= 8
    assert axis.ticks == round_ticks(axis.low, axis.high)


def test_tick_labels_read_well() -> None:
    assert [tick_text(v) for v in (0.25, 1000, -1150, 0.1 + 0.2)] == ["0.25", "1,000", "−1,150", "0.3"]


def test_a_line_goes_through_its_points_and_breaks_at_gaps() -> None:
    x, y = np.array([0.0, 1, 2, 3]), np.array([0.0, 1, np.nan, 1])
    series = Series("s", x, y, "role-a")
    chart = line_chart("t", "c", [series], Axis("x", 0, 3, (0, 3)), Axis("y", 0, 1, (0, 1)))
    path = re.search(r'<path d="([^"]+)" class="line', chart.svg)
    assert path is not None
    assert path[1].count("M") == 2
    first, second = (tuple(map(float, point.split())) for point in re.findall(r"[ML]([\d. ]+)", path[1])[:2])
    assert first[1] > second[1]  # larger values stand higher
    readout = re.search(r'data-readout="([^"]+)"', chart.svg)
    assert readout is not None
    content = json.loads(html.unescape(readout[1]))
    assert content["series"] == [{"label": "s", "y": [0.0, 1.0, None, 1.0]}]
    assert first[0] == pytest.approx(content["left"], abs=0.1)


def test_labels_of_near_lines_stand_on_lines_of_their_own() -> None:
    series = [Series("s", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "role-a")]
    levels = [Level(0.90, "one", vertical=True), Level(0.95, "two", vertical=True)]
    chart = line_chart("t", "c", series, Axis("x", 0, 1, (0, 1)), Axis("y", 0, 1, (0, 1)), levels)
    heights = [float(y) for y in re.findall(r'class="note" x="[\d.]+" y="([\d.]+)"', chart.svg)]
    assert abs(heights[0] - heights[1]) > 11


def test_a_histogram_counts_everyone() -> None:
    values = np.random.default_rng(0).normal(size=777)
    chart = histogram("t", "c", values, "x")
    assert sum(int(n) for n in re.findall(r": (\d+) particles", chart.svg)) == 777


def test_words_are_escaped() -> None:
    series = [Series("<s>", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "role-a")]
    chart = line_chart("<t>", "<c>", series, Axis("<x>", 0, 1, (0, 1)), Axis("<y>", 0, 1, (0, 1)), [Level(0.5, "<l>")])
    assert not re.search(r"<[stcxyl]>", chart.svg)
