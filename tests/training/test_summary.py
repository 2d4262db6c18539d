"""What a user is told at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarice.training.summary import End, Outcome, closing_sentences


def told(end: End, *errors: float) -> str:
    validations = [(25 * n, error) for n, error in enumerate(errors)]
    return "\n".join(closing_sentences(Path("run"), Outcome(end, 0, 100, 12.0, validations, (50, 0.3))))


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (0.4, "lowered the validation error by 20.00 %: the network counts as not yet trained"),
        (0.4975, "lowered the validation error by 0.50 %: the network counts as trained"),
        (0.55, "raised the validation error by 10.00 %: the network counts as trained"),
    ],
)
def test_the_last_quarter_is_judged(last: float, sentence: str) -> None:
    assert sentence in told("images", 1.0, 0.8, 0.7, 0.5, last)


def test_a_stop_says_why_and_how_to_go_on() -> None:
    assert "minutes are used up: the same command goes on" in told("minutes", 1.0, 0.8, 0.7, 0.5, 0.4)
    assert "counts as" not in told("minutes", 1.0, 0.8, 0.7, 0.5, 0.4)
    assert "a signal asked to stop" in told("signal", 1.0)
    assert "best.safetensors (validation error 0.3 after 50 images)" in told("images", 1.0)
