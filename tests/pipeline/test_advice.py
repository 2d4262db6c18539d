"""What is advised, from figures whose advice is plain."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clarice.denoise.notes import Notebook, Sources
from clarice.io.star import write_star
from clarice.metrics.predicted_fsc import Prediction
from clarice.metrics.view_coverage import Coverage
from clarice.pipeline import advice_words as words
from clarice.pipeline.class_advice import (
    MOST_CLASSES,
    Neighbours,
    class_advice,
    distinct_views,
    neighbours,
    particles_to_fill,
)
from clarice.pipeline.defocus_snr import DefocusGroup, MeasuredSnr, Snr
from clarice.pipeline.denoised_notes import NOTES, write_notes

EVEN = Coverage(1.0, 0.9)


def selection(*kept: int, total: int) -> dict[str, Any]:
    classes = [{"number": number + 1, "members": 50, "kept": count} for number, count in enumerate(kept)]
    return {"kept": sum(kept), "total": total, "classes": classes}


def group(micrometres: float, snr: float, scale: float = 1.0, error: float = 0.002) -> DefocusGroup:
    least, most = 1e4 * micrometres, 1e4 * micrometres + 900
    return DefocusGroup(least, most, 200, Snr(snr, error, scale, 0.01, 200))


def measured(*groups: DefocusGroup) -> MeasuredSnr:
    whole = Snr(0.1, 0.001, 1.0, 0.004, 600)
    return MeasuredSnr(whole, whole, groups, 20.0)


def predictions(*resolutions: float | None, limited: bool = False) -> tuple[Prediction, ...]:
    """At a quarter, half, once, twice, four and ten times the particles."""
    ratios = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
    return tuple(
        Prediction(ratio, value, 0.0, limited and ratio >= 1) for ratio, value in zip(ratios, resolutions, strict=True)
    )


def test_an_average_of_the_particles_to_fill_has_snr_one() -> None:
    """Of noise of variance 1 and a signal inside a disk."""
    rng = np.random.default_rng(3)
    disk, box = 400, 4096
    signal = np.zeros(box)
    signal[:disk] = rng.normal(0, 0.25, disk)
    snr = np.square(signal).mean()
    fill = particles_to_fill(snr, 0.1 * snr, disk / box)
    assert fill is not None
    average = signal + rng.normal(0, 1, (fill, box)).mean(axis=0)
    noise = np.square(average - signal)[:disk].mean()
    assert np.square(signal)[:disk].mean() / noise == pytest.approx(1, abs=0.25)


def test_no_signal_fills_no_class() -> None:
    assert particles_to_fill(0.01, 0.004, 0.4) is None
    assert particles_to_fill(0.0, 0.0, 0.4) is None
    found = class_advice(selection(50, 50, total=100), 2, None, 500)
    assert found.advised is None
    assert not found.fits
    assert "cannot be told" in words.of_classes(found)


def test_views_lie_as_far_apart_as_the_detail() -> None:
    """A sphere holds 4π / α² of them, α being the detail over the diameter."""
    assert distinct_views(200.0, 1) == round(4 * math.pi * 100)
    assert distinct_views(200.0, 24) == round(4 * math.pi * 100 / 24)
    assert distinct_views(1.0, 60) == 1


def test_classes_are_as_many_as_particles_fill_and_views_differ() -> None:
    by_particles = class_advice(selection(500, 300, 0, total=1000), 3, fill=40, views=500)
    assert by_particles.members == (500, 300)
    assert by_particles.advised == 25  # 20 for the 800 that are kept, and their share for the others
    by_views = class_advice(selection(500, 300, 0, total=800), 3, fill=2, views=22)
    assert by_views.advised == 22
    few_each = class_advice(selection(500, 300, total=800), 3, fill=2, views=500)
    assert few_each.advised == 40  # of 20 particles, whatever fills one
    assert class_advice(selection(50_000, total=50_000), 50, fill=2, views=800).advised == MOST_CLASSES
    said = words.of_classes(by_particles)
    assert "2 of 3 classes were kept, of 300 to 500 particles each (median 400)" in said
    assert "--classes 25" in said
    assert "about right" in words.of_classes(class_advice(selection(500, 300, total=800), 18, fill=2, views=22))
    assert "0 of 3 classes were kept." in words.of_classes(class_advice(selection(0, 0, 0, total=100), 3, 2, 22))


def test_neighbours_that_weigh_alike_are_counted(tmp_path: Path) -> None:
    """Twenty weigh alike beside the image's own half; five of them are listed."""
    count, listed = 30, 5
    notes = Notebook(count, listed)
    row = np.tile(np.arange(listed), (count, 1))
    weight = np.full((count, listed), 0.5 / 20)
    notes.sources(np.arange(count), Sources(row, np.zeros((count, listed)), weight, np.full(count, 0.5)))
    write_notes(notes, tmp_path / NOTES)
    found = neighbours(tmp_path / NOTES)
    assert found is not None
    assert found.kept_weight == 0.5
    assert found.effective == pytest.approx(20, rel=1e-3)
    assert "fewer than that" in words.of_neighbours(found, 25)
    assert "enough" in words.of_neighbours(found, 15)
    assert words.of_neighbours(Neighbours(0.5, 20.0), None).endswith("in effect.")


def test_one_heavy_neighbour_counts_as_one(tmp_path: Path) -> None:
    own = pd.DataFrame({"clariceRow": [1, 2], "clariceKeptWeight": [0.4, 0.4]})
    one = {
        "clariceRow": [1, 2],
        "clariceSourceRow": [2, 1],
        "clariceSourceAngle": [0, 0],
        "clariceSourceWeight": [0.6] * 2,
    }
    write_star(tmp_path / NOTES, {"particles": own, "sources": pd.DataFrame(one)})
    found = neighbours(tmp_path / NOTES)
    assert found is not None
    assert found.effective == pytest.approx(1)


def test_methods_without_sources_have_no_neighbours(tmp_path: Path) -> None:
    assert neighbours(tmp_path / NOTES) is None


def test_a_range_of_defocus_without_signal_is_named() -> None:
    found = measured(group(0.8, 0.03), group(1.5, 0.1), group(2.2, 0.12))
    assert words.much_worse(found.groups) == [found.groups[0]]
    assert words.faint_groups(found) == []
    assert "highest at 2.20–2.29 µm" in words.of_snr(found)
    assert "much lower at 0.80–0.89 µm" in words.of_snr(found)
    topics = dict(words.what_to_collect(predictions(9, 9, 8, 8, 8, 8), found, EVEN, 1.0, True))
    assert "0.80–0.89 µm" in topics["defocus"]
    # What may be chance is not named.
    assert words.much_worse(measured(group(0.8, 0.03, error=0.02), group(1.5, 0.1)).groups) == []


def test_particles_fainter_than_their_ctf_promises_are_named() -> None:
    found = measured(group(0.8, 0.09), group(1.5, 0.05, scale=0.6), group(2.2, 0.1))
    assert words.faint_groups(found) == [found.groups[1]]
    topics = dict(words.what_to_collect(predictions(9, 9, 8, 8, 8, 8), found, EVEN, 1.0, True))
    assert "ice is thick" in topics["defocus"]
    assert "1.50–1.59 µm" in topics["defocus"]


@pytest.mark.parametrize(("least_sampled", "worst_over_best"), [(0.1, 1.0), (0.9, 1.8)])
def test_missing_views_come_first(least_sampled: float, worst_over_best: float) -> None:
    views = Coverage(0.5, least_sampled)
    found = list(words.what_to_collect(predictions(9, 8.5, 8, 7, 6, 5), measured(), views, worst_over_best, True))
    assert [topic for topic, _ in found] == ["views", "particles"]
    assert ("1.8 times coarser" in found[0][1]) == (worst_over_best > 1.5)


def test_the_box_limits_before_particles_do() -> None:
    limited = predictions(7, 6.5, 6, 6, 6, 6, limited=True)
    for whole_box, remedy in ((True, "smaller pixels"), (False, "--working-box")):
        topics = dict(words.what_to_collect(limited, measured(), EVEN, 1.0, whole_box))
        assert remedy in topics["pixels"]
        assert "particles" not in topics
    said = words.of_resolution(limited, 1000, None)
    assert "the working box limits it" in said
    assert "500 of them would reach 6.5 Å" in said


def test_more_particles_pay_where_they_make_details_finer() -> None:
    paying = dict(words.what_to_collect(predictions(9, 8.5, 8, 7, 6, 5), measured(), EVEN, 1.0, True))
    assert "bring 8.0 Å to 6.0 Å" in paying["particles"]
    not_paying = dict(words.what_to_collect(predictions(9, 8.5, 8, 7.9, 7.8, 7.7), measured(), EVEN, 1.0, True))
    assert "bring little" in not_paying["particles"]
    unknown = predictions(9, 8.5, 8, None, None, None)
    assert list(words.what_to_collect(unknown, measured(), EVEN, 1.0, True)) == []
    assert "cannot be told" in words.of_resolution(unknown, 1000, None)
    assert "7.9 Å with 2,000" in words.of_resolution(predictions(9, 8.5, 8, 7.9, 7.8, 7.7), 1000, None)
