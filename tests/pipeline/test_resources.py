"""What the machine has and what a stage used of it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from clarice.pipeline import resources
from clarice.pipeline.resources import PeakMemory, free_disk_mb, hardware, memory_within_reach_mb


def test_hardware_names_the_machine() -> None:
    facts = hardware()
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert facts["memory_gb"] == pytest.approx(psutil.virtual_memory().total / 1024**3, abs=0.1)


def test_memory_within_reach_includes_what_the_process_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_mb = psutil.Process().memory_info().rss / 2**20
    assert held_mb < memory_within_reach_mb() <= psutil.virtual_memory().total / 2**20 + held_mb
    (tmp_path / "max").write_text(str(500 * 2**20))
    (tmp_path / "current").write_text(str(400 * 2**20))
    monkeypatch.setattr(resources, "CGROUP_LIMIT", tmp_path / "max")
    monkeypatch.setattr(resources, "CGROUP_USED", tmp_path / "current")
    assert memory_within_reach_mb() == pytest.approx(100 + held_mb, abs=20)


def test_free_disk_is_counted_in_megabytes(tmp_path: Path) -> None:
    assert free_disk_mb(tmp_path) == pytest.approx(psutil.disk_usage(str(tmp_path)).free / 2**20, rel=0.05)


def test_peak_memory_sees_what_came_and_went() -> None:
    """The second, smaller peak stays below the process's lifetime peak and is measured all the same."""
    peaks = []
    for size_mb in (400, 100):
        before = psutil.Process().memory_info().rss / 2**20
        with PeakMemory() as peak:
            block = np.ones(size_mb * 2**17)
            time.sleep(0.25)
            del block
        peaks.append(peak.megabytes - before)
    assert 380 < peaks[0] < 480
    assert 80 < peaks[1] < 180
