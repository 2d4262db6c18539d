"""The installed command, run as a user runs it, and a small simulated stack to run it on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import call

Clarice = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def clarice() -> Clarice:
    """Runs `clarice` with the given words; `ok=True` (the default) also asserts that it succeeds."""

    def run(*words: str | Path, cwd: Path | None = None, ok: bool = True) -> subprocess.CompletedProcess[str]:
        finished = call(*words, cwd=cwd)
        assert not ok or finished.returncode == 0, finished.stderr
        return finished

    return run


@pytest.fixture(scope="session")
def small_data(clarice: Clarice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 300 particles of 32 px and their truth."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    options = ("--molecule", "3", "--mass-kda", "100", "--particles", "300", "--box", "32", "--snr", "0.5")
    clarice("simulate", "-o", folder, *options, "--seed", "1")
    return folder


@pytest.fixture(scope="session")
def finished_run(clarice: Clarice, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed `clarice run` on the small stack."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    clarice("run", small_data / "particles.star", "-o", folder, "--seed", "1")
    return folder
