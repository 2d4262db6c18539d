"""The protocol's frame, with a program that answers at once."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from clarice.benchmark import main_job as job
from clarice.benchmark.main_job import Request, main_job
from clarice.benchmark.records import Row

Make = Callable[..., Request]


def nothing(_: Row) -> None:
    """Shows no row."""


def test_right_wrong_and_failed_runs_are_told_apart(small_request: Make) -> None:
    request = small_request(seeds=(1, 13, 14))
    right, failed, wrong = main_job(request, shown=nothing).rows
    assert (right["verdict"], failed["verdict"], wrong["verdict"]) == ("right", "failed", "not found")
    assert right["hand"] == "mirrored"
    assert right["orientation_median_deg"] < 0.1
    assert right["fsc_05_px"] < 2.5
    assert right["stated_angstrom"] == pytest.approx(3 * right["pixel_size_angstrom"], rel=1e-3)
    assert right["symmetry"] == "C2"
    assert right["seconds"] > 0
    assert 20 < right["peak_memory_mb"] < 2000
    assert failed["note"].endswith("holds nothing but bad luck")
    assert str(request.work) not in failed["note"]
    record = json.loads((request.out / "main-job.json").read_text())
    assert record["summary"]["right structures"] == "1 of 3"
    assert any("procedural" in note for note in record["notes"])
    assert "| molecule-105 | 14 | not found |" in (request.out / "main-job.md").read_text()


def test_resuming_does_only_what_is_missing(small_request: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    main_job(small_request(seeds=(1, 13)), shown=nothing)
    done: list[int] = []

    def measure(entry: str, seed: int, request: Request, progress: object) -> Row:
        done.append(seed)
        return {"entry": entry, "seed": seed, "verdict": "right", "right": True, "seconds": 1.0, "peak_memory_mb": 1.0}

    monkeypatch.setattr(job, "measure_row", measure)
    shown: list[int] = []
    again = main_job(small_request(seeds=(1, 2, 13), resume=True), shown=lambda row: shown.append(row["seed"]))
    assert done == [2, 13]  # the failed one is tried again
    assert shown == [1, 2, 13]
    assert again.summary["right structures"] == "3 of 3"
    main_job(small_request(seeds=(1,)), shown=nothing)
    assert done == [2, 13, 1]


def test_structures_of_too_fine_a_pixel_stand_apart(small_request: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "FINEST_PIXEL_ANGSTROM", 100.0)
    results = main_job(small_request(), shown=nothing)
    assert results.rows[0]["apart"]
    assert results.summary["right structures"] == "0 of 0"


@pytest.mark.slow
def test_the_real_command_finds_a_small_molecule(small_request: Make) -> None:
    from clarice.benchmark.measured import CLARICE
    from clarice.benchmark.protocol import StackSettings

    settings = StackSettings(particles=300, box=32, snr=0.5)
    request = small_request(program=CLARICE, settings=settings, timeout_seconds=600.0)
    row = main_job(request, shown=nothing).rows[0]
    assert row["verdict"] == "right", row
    assert list(row["stage_seconds"])[:2] == ["check", "prepare"]
