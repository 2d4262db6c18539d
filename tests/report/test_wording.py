"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from clarice.report import wording


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (wording.quantity(2.1, "Å", 4), "2.1 Å"),
        (wording.quantity(300.0, "kV", 4), "300 kV"),
        (wording.quantity(0.0, "Å"), "0 Å"),
        (wording.quantity(1.2345, "Å"), "1.23 Å"),
        (wording.quantity(126.4, "Å"), "126 Å"),
        (wording.quantity(None, "Å"), "–"),
        (wording.quantity(math.nan, "Å"), "–"),
        (wording.angstrom(8.4), "8.40 Å"),
        (wording.angstrom(10.31), "10.3 Å"),
        (wording.angstrom(math.inf), "–"),
        (wording.count(12345), "12,345"),
        (wording.percent(1, 3), "33.3 %"),
        (wording.percent(1, 0), "–"),
        (wording.duration(0.204), "0.20 s"),
        (wording.duration(12.34), "12.3 s"),
        (wording.duration(99.99), "1 min 40 s"),
        (wording.duration(3599.6), "1 h 00 min"),
        (wording.duration(7500), "2 h 05 min"),
        (wording.memory(999), "999 MB"),
        (wording.memory(1290), "1.29 GB"),
        (wording.hundredths(-1150.4), "−1,150.40"),
        (wording.date("2026-11-20T13:05:00+00:00"), "20 November 2026, 13:05 UTC"),
        (wording.date("yesterday"), "yesterday"),
        (wording.date(None), "–"),
        (wording.plain([1, None, True]), "1, –, yes"),
        (wording.plain([]), "none"),
        (wording.plain({"a": 0.1}), "a 0.1"),
    ],
)
def test_wording(made: str, text: str) -> None:
    assert made.replace("\u202f", " ") == text
