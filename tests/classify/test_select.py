"""Selection drops evident junk only, keeps what is rare, and says when a class vanishes."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.classify.select import (
    EDGE,
    EMPTY,
    KEPT,
    NOISE,
    ClassQuality,
    can_be_judged,
    judge_classes,
    select_all,
    select_automatically,
    select_classes,
)
from clarice.core.errors import InputError, UsageError


def quality(rows: list[tuple[int, float, float]]) -> ClassQuality:
    """From (population, contrast, fit) of each class."""
    population, contrast, fit = (np.array(values) for values in zip(*rows, strict=True))
    return ClassQuality(population.astype(np.int64), np.full(len(rows), 20.0), contrast, fit)


def test_noise_and_edges_go_rare_and_blurred_views_stay() -> None:
    classes = quality(
        [
            (300, 1.0, 0.01),
            (90, 16.0, 0.30),
            (80, 14.0, 0.26),
            (60, 1.7, 0.95),
            (40, 9.0, 0.24),
            (2, 4.5, 0.2),
            (0, np.nan, np.nan),
        ]
    )
    # Even the largest class is judged against what particles give, and noise is in the majority nowhere here.
    crowded = ClassQuality(
        np.array([300, 900, 800, 60, 40, 2, 0]), classes.resolution_angstrom, classes.contrast, classes.class_fit
    )
    assert judge_classes(crowded) == (NOISE, KEPT, KEPT, EDGE, KEPT, KEPT, EMPTY)


def test_nothing_is_judged_where_no_class_stands_out() -> None:
    faint = quality([(50, 1.5, 0.1), (40, 0.2, 0.01), (30, 2.0, 0.3)])
    assert set(judge_classes(faint)) == {KEPT}
    assert not can_be_judged(faint)
    assert can_be_judged(quality([(50, 15.0, 0.3), (40, 0.2, 0.01)]))


def test_automatic_selection_keeps_rows_in_order() -> None:
    classes = quality([(4, 15.0, 0.3), (3, 1.0, 0.01), (1, 12.0, 0.3)])
    number = np.array([1, 2, 3, 1, 2, 1, 1, 2])
    chosen = select_automatically(classes, number)
    assert chosen.rows.tolist() == [0, 2, 3, 5, 6]
    assert chosen.selected_classes == (1, 3)
    record = chosen.as_record()
    assert record["kept"] == 5
    assert record["total"] == 8
    assert record["reasons"] == {NOISE: 3}
    assert chosen.warnings == ()


def test_a_class_that_loses_everything_to_probability_raises_the_alarm() -> None:
    classes = quality([(4, 15.0, 0.3), (2, 14.0, 0.3)])
    number, probability = np.array([1, 1, 2, 2, 1, 1]), np.array([0.9, 0.8, 0.3, 0.2, 0.95, 0.1])
    chosen = select_automatically(classes, number, probability, minimum_probability=0.5)
    assert chosen.rows.tolist() == [0, 1, 4]
    assert len(chosen.warnings) == 1
    assert "class 2 loses all of its 2 particles" in chosen.warnings[0]
    assert chosen.as_record()["reasons"] == {"improbable in its class": 3}


def test_manual_selection_by_number() -> None:
    chosen = select_classes([3, 1], 3, np.array([1, 2, 3, 3, 2]))
    assert chosen.rows.tolist() == [0, 2, 3]
    assert [fate.reason for fate in chosen.fates] == [KEPT, "not chosen", KEPT]


def test_what_cannot_be_selected_is_refused() -> None:
    number = np.array([1, 2, 2])
    with pytest.raises(UsageError, match="no class 5, only 1 to 2"):
        select_classes([5], 2, number)
    with pytest.raises(UsageError, match="between 0 and 1"):
        select_classes([1], 2, number, np.ones(3), 1.5)
    with pytest.raises(UsageError, match="_rlnMaxValueProbDistribution"):
        select_classes([1], 2, number, None, 0.5)
    with pytest.raises(InputError, match="selection is empty"):
        select_classes([1], 2, number, np.zeros(3), 0.5)


def test_junk_as_sharp_as_what_is_kept_raises_the_alarm() -> None:
    """A smaller particle stands out little, and yet the halves of its class agree: it is named, blurred junk is not."""
    classes = quality([(90, 16.0, 0.30), (80, 14.0, 0.26), (12, 3.0, 0.5), (11, 3.0, 0.5)])
    sharp = ClassQuality(classes.population, np.array([20.0, 22.0, 24.0, 60.0]), classes.contrast, classes.class_fit)
    number = np.repeat([1, 2, 3, 4], [90, 80, 12, 11])
    chosen = select_automatically(sharp, number)
    assert [fate.reason for fate in chosen.fates] == [KEPT, KEPT, EDGE, EDGE]
    assert len(chosen.warnings) == 1
    assert "class 3 is left out as junk" in chosen.warnings[0]
    assert "12 particles agree to 24 Å, where those of kept classes reach 20 Å" in chosen.warnings[0]


def test_all_may_be_kept() -> None:
    chosen = select_all(np.array([1, 3, 3]), 3)
    assert chosen.rows.tolist() == [0, 1, 2]
    assert chosen.warnings == ()
    assert chosen.selected_classes == (1, 3)
    assert [fate.reason for fate in chosen.fates] == [KEPT, EMPTY, KEPT]
