"""A request of seconds, answered by a program that knows the truth, and a stack to judge on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clarice.benchmark.main_job import Request
from clarice.benchmark.protocol import SimulatedStack, StackSettings, make_stack
from clarice.benchmark.structures import load_subject

FAKE = (sys.executable, str(Path(__file__).with_name("fake_clarice.py")))
SMALL = StackSettings(particles=60, box=32, snr=0.5, defocus_groups=5)


@pytest.fixture
def small_request(tmp_path: Path) -> Callable[..., Request]:
    """Makes a request for 60 particles of molecule-105 (C2); keywords replace its fields."""

    def make(**changes: object) -> Request:
        fields: dict[str, object] = {
            "entries": ("molecule-105",),
            "seeds": (1,),
            "settings": SMALL,
            "data": None,
            "out": tmp_path / "out",
            "work": tmp_path / "work",
            "threads": 1,
            "program": FAKE,
            "timeout_seconds": 120.0,
        }
        return Request(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def small_stack(tmp_path_factory: pytest.TempPathFactory) -> SimulatedStack:
    """60 particles of molecule-105."""
    return make_stack(load_subject("molecule-105", None), 1, SMALL, tmp_path_factory.mktemp("stack"), None)
