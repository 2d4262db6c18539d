"""What the machine has and what a stage used of it."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

import psutil
import pytest

from clarice.core.errors import ResourceError
from clarice.pipeline import resources
from clarice.pipeline.resources import (
    PeakMemory,
    duration_text,
    free_disk_mb,
    hardware,
    insist_on_disk,
    insist_on_memory,
    memory_within_reach_mb,
    size_text,
)


def test_hardware_names_the_machine() -> None:
    facts = hardware()
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert facts["arithmetic"] in ("float32", "bfloat16")
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


def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "memory_within_reach_mb", lambda: 2000.0)
    monkeypatch.setattr(resources, "free_disk_mb", lambda _: 300.0)
    insist_on_memory("the map", 2000)
    insist_on_disk("the map", 300, tmp_path)
    with pytest.raises(ResourceError) as caught:
        insist_on_memory("the map", 3072)
    assert str(caught.value) == (
        "the map needs about 3.0 GB of memory and 2.0 GB can be had: "
        "use a smaller working box (--working-box) or a machine with more memory"
    )
    with pytest.raises(ResourceError, match=r"the map needs about 301 MB and 300 MB is free on the disk of .*: make"):
        insist_on_disk("the map", 301, tmp_path)


def test_sizes_and_durations_in_words() -> None:
    assert [size_text(megabytes) for megabytes in (3.2, 999, 2048)] == ["3 MB", "999 MB", "2.0 GB"]
    assert [duration_text(seconds) for seconds in (4.4, 89, 120, 7200)] == ["4 s", "89 s", "2 min", "2.0 h"]


def test_peak_memory_sees_what_came_and_went() -> None:
    """The second, smaller peak stays below the process's lifetime peak and is measured all the same."""
    peaks = []
    for size_mb in (400, 100):
        before = psutil.Process().memory_info().rss / 2**20
        # Pages straight from the system: the heap may have room of its own.
        with PeakMemory() as peak, mmap.mmap(-1, size_mb * 2**20) as block:
            for page in range(0, len(block), mmap.PAGESIZE):
                block[page] = 1
            time.sleep(0.25)
        peaks.append(peak.megabytes - before)
    assert 380 < peaks[0] < 480
    assert 80 < peaks[1] < 180
