"""The job on real particles that nobody here made; skips visibly without them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Clarice = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_job_completes_on_real_apoferritin(clarice: Clarice, shared_data: Path, tmp_path: Path) -> None:
    """1,620 particles, 64 px, dark on bright."""
    stacks = sorted((shared_data / "particles" / "apoferritin").glob("*.star"))
    assert stacks
    clarice("run", stacks[0], "-o", tmp_path / "run", "--seed", "1")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["input"]["particles"] == 1620
    assert {stage["status"] for stage in record["stages"]} == {"done"}
    resolution = json.loads((tmp_path / "run" / "fsc.json").read_text())["resolution_angstrom"]["0.143"]
    assert 6.0 <= resolution < 40
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
