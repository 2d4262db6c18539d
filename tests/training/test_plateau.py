"""When a network counts as trained."""

from __future__ import annotations

import pytest

from clarice.training.plateau import last_quarter_gain


def test_the_gain_is_relative_to_the_error_at_three_quarters() -> None:
    assert last_quarter_gain([(0, 1.0), (75, 0.5), (100, 0.4)]) == pytest.approx(0.2)


def test_the_error_at_three_quarters_is_interpolated() -> None:
    assert last_quarter_gain([(0, 1.0), (50, 0.6), (100, 0.4)]) == pytest.approx((0.5 - 0.4) / 0.5)
    assert last_quarter_gain([(70, 0.52), (80, 0.48), (90, 0.9), (100, 0.45)]) == pytest.approx(0.1)


def test_an_error_that_grew_is_a_negative_gain() -> None:
    assert last_quarter_gain([(75, 0.5), (100, 0.55)]) == pytest.approx(-0.1)


@pytest.mark.parametrize("validations", [[], [(0, 1.0)], [(0, 1.0), (100, 0.5)], [(90, 0.5), (100, 0.4)]])
def test_too_few_validations_say_nothing(validations: list[tuple[int, float]]) -> None:
    assert last_quarter_gain(validations) is None
