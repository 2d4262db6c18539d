"""A request of seconds, answered by a program that knows the truth, and a stack to judge on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.benchmark import fake_clarice

from clarice.benchmark import abinitio_methods, main_job
from clarice.benchmark.main_job import Request
from clarice.benchmark.measured import Usage, run_measured
from clarice.benchmark.protocol import SimulatedStack, StackSettings, make_stack
from clarice.benchmark.structures import load_subject

FAKE = (sys.executable, str(Path(__file__).with_name("fake_clarice.py")))
SMALL = StackSettings(particles=60, box=32, snr=0.5, defocus_groups=5)


def run_at_once(command: Sequence[str | Path], *, folder: Path, log: Path, **how: Any) -> Usage:
    """The stand-in in this very process, since to start one takes seconds; other programs as they are run."""
    if tuple(map(str, command[: len(FAKE)])) != FAKE:
        return run_measured(command, folder=folder, log=log, **how)
    assert folder.is_dir()
    started, said = time.perf_counter(), ""
    try:
        fake_clarice.main(*map(str, command[len(FAKE) :]))
    except SystemExit as ended:
        said = str(ended.code)
    log.write_text(said)
    return Usage(int(bool(said)), 1 + time.perf_counter() - started, 0.01, 100.0, said)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocols call the stand-in without a process of its own."""
    for module in (main_job, abinitio_methods):
        monkeypatch.setattr(module, "run_measured", run_at_once)


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
