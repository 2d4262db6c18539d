"""The protocol `speed`: each stack once, each method on it, and what a doubling costs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.benchmark.conftest import FAKE, SMALL

from clarice.benchmark import speed as protocol
from clarice.benchmark.measured import CLARICE
from clarice.benchmark.protocol import SimulatedStack, StackSettings, make_stack
from clarice.benchmark.records import Row
from clarice.benchmark.speed import CLASSES, SpeedRequest, speed
from clarice.benchmark.structures import Subject
from clarice.core.errors import UsageError

# Writes the files of a classification, with the number of its process in them.
BY_RANK = """
import os, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
out.mkdir(exist_ok=True)
for name in ("classes.mrcs", "class_members.star"):
    (out / name).write_text(os.environ.get("RANK", "alone"))
"""


def nothing(_: Row) -> None:
    """Shows no row."""


def request_in(folder: Path, **changes: object) -> SpeedRequest:
    fields: dict[str, object] = {
        "entry": "molecule-105",
        "counts": (60, 30),
        "methods": ("covariance-wiener", "wiener"),
        "out": folder / "out",
        "work": folder / "work",
        "settings": SMALL,
        "program": FAKE,
        "timeout_seconds": 120.0,
    }
    return SpeedRequest(**{**fields, **changes})  # type: ignore[arg-type]


def test_every_method_is_run_on_every_stack_and_held_against_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(subject: Subject, seed: int, settings: StackSettings, *rest: Any) -> SimulatedStack:
        made.append(settings.particles)
        return make_stack(subject, seed, settings, *rest)

    monkeypatch.setattr(protocol, "make_stack", counted)
    results = speed(request_in(tmp_path), shown=nothing)
    assert {row["processes"] for row in results.rows} == {1}
    named = [(row["method"], row["particles"]) for row in results.rows]
    assert named == [("covariance-wiener", 30), ("wiener", 30), ("covariance-wiener", 60), ("wiener", 60)]
    assert made == [30, 60]
    for row in results.rows:
        assert row["images_per_second"] == pytest.approx(row["particles"] / row["seconds"], rel=0.01, abs=0.06)
        assert row["relative_mse"] == (0.25 if row["method"] == "wiener" else 0)
        assert row["peak_memory_mb"] > 20
    assert "over_half" not in results.rows[0]
    whole, half = results.rows[2], results.rows[0]
    assert whole["over_half"] == pytest.approx(whole["seconds"] / half["seconds"], rel=1e-3)
    assert f"{whole['over_half']:.2f} ×" in results.summary["covariance-wiener: 60 particles over 30"]
    again = speed(request_in(tmp_path, resume=True), shown=nothing)
    assert made == [30, 60]
    assert [row["made"] for row in again.rows] == [row["made"] for row in results.rows]


def test_a_failure_is_a_row_without_a_ratio(tmp_path: Path) -> None:
    failing = ("python3", "-c", "import sys; sys.exit('out of luck')")
    results = speed(request_in(tmp_path, program=failing, methods=("wiener",)), shown=nothing)
    assert [(row["failed"], row["note"]) for row in results.rows] == [(True, "out of luck")] * 2
    assert results.summary == {}


def test_two_processes_killed_halfway_are_held_against_one(tmp_path: Path) -> None:
    asked = request_in(tmp_path, counts=(60,), methods=(CLASSES,), processes=2, program=CLARICE, threads=1)
    one, two = speed(asked, shown=nothing).rows
    assert not two.get("failed"), two["note"]
    assert (one["processes"], two["processes"], two["same_files"]) == (1, 2, "yes")
    assert two["results_kept"] >= 0
    assert two["killed_after_seconds"] == pytest.approx(one["seconds"] / 2, abs=0.1)
    assert two["seconds"] > two["killed_after_seconds"]
    assert two["peak_together_mb"] > 0.9 * two["peak_memory_mb"] > 100
    text = speed(replace(asked, resume=True), shown=nothing).summary[f"{CLASSES}: 60 particles, 2 processes"]
    assert text.endswith("× the time of one in all; the same files")


def test_other_files_of_two_processes_are_told(tmp_path: Path) -> None:
    asked = request_in(tmp_path, counts=(30,), methods=(CLASSES,), processes=2, program=(sys.executable, "-c", BY_RANK))
    results = speed(asked, shown=nothing)
    assert [row.get("same_files") for row in results.rows] == [None, "NO"]
    assert results.summary[f"{CLASSES}: 30 particles, 2 processes"].endswith("OTHER FILES")


def test_methods_that_are_not_shared_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--processes"):
        request_in(tmp_path, processes=2)


def test_no_particles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--particles"):
        request_in(tmp_path, counts=(0, 10))
