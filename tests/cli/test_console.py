"""Progress as lines, where there is no terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from clarice.cli import console as told


def test_lines_say_how_far_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 120.0, 140.0])
    monkeypatch.setattr(told, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    output = io.StringIO()
    monkeypatch.setattr(told, "console", Console(file=output, width=100))
    with told.showing_progress() as progress:
        progress("refinement", 0, 4)
        progress("refinement", 1, 4)  # too soon for another line
        progress("refinement", 2, 4)
        progress("refinement", 4, 4)
    assert output.getvalue().splitlines() == [
        "refinement: 0/4, 0 s",
        "refinement: 2/4, 20 s, ETA 20 s",
        "refinement: 4/4, 40 s, ETA 0 s",
    ]
