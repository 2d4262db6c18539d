"""The protocol's frame, with a program that answers at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from clarice.benchmark import main_job as job
from clarice.benchmark.main_job import Request, main_job
from clarice.benchmark.protocol import SimulatedStack, make_stack
from clarice.benchmark.records import Row
from clarice.benchmark.structures import Subject

Make = Callable[..., Request]
ONE = ("covariance-wiener",)


def nothing(_: Row) -> None:
    """Shows no row."""


def test_right_wrong_and_failed_runs_are_told_apart(small_request: Make) -> None:
    request = small_request(seeds=(1, 13, 14))
    right, failed, wrong = main_job(request, ONE, shown=nothing).rows
    assert (right["verdict"], failed["verdict"], wrong["verdict"]) == ("right", "failed", "not found")
    assert right["hand"] == "mirrored"
    assert right["orientation_median_deg"] < 0.1
    assert right["fsc_05_px"] < 2.5
    assert right["stated_angstrom"] == pytest.approx(3 * right["pixel_size_angstrom"], rel=1e-3)
    assert right["symmetry"] == "C2"
    assert right["seconds"] > 0
    assert right["relative_mse"] == 0
    assert 20 < right["peak_memory_mb"] < 2000
    assert failed["note"].endswith("holds nothing but bad luck")
    assert str(request.work) not in failed["note"]
    record = json.loads((request.out / "main-job.json").read_text())
    assert record["summary"]["covariance-wiener: right structures"] == "1 of 3"
    assert any("procedural" in note for note in record["notes"])
    assert "| molecule-105 | 14 | covariance-wiener | not found |" in (request.out / "main-job.md").read_text()


@pytest.mark.usefixtures("at_once")
def test_each_denoiser_is_a_row_judged_by_its_images(small_request: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(subject: Subject, seed: int, *rest: Any) -> SimulatedStack:
        made.append(seed)
        return make_stack(subject, seed, *rest)

    monkeypatch.setattr(job, "make_stack", counted)
    results = main_job(small_request(), ("covariance-wiener", "wiener"), shown=nothing)
    assert [row["method"] for row in results.rows] == ["covariance-wiener", "wiener"]
    assert results.rows[1]["relative_mse"] == pytest.approx(0.25, abs=1e-4)
    assert results.rows[1]["frc_05_angstrom"] == pytest.approx(results.rows[1]["nyquist_angstrom"], rel=0.05)
    assert made == [1]  # one stack for both
    said = results.summary
    assert said["wiener: denoised images, relative MSE"].startswith("0.250")
    assert said["covariance-wiener: denoised images, relative MSE"].startswith("0.000")


@pytest.mark.usefixtures("at_once")
def test_resuming_does_only_what_is_missing(small_request: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    main_job(small_request(seeds=(1, 13)), ONE, shown=nothing)
    done: list[int] = []

    def measure(make: Callable[[], SimulatedStack], method: str, request: Request) -> Row:
        done.append(seed := make().seed)
        return {
            "entry": "molecule-105",
            "seed": seed,
            "method": method,
            "verdict": "right",
            "right": True,
            "seconds": 1.0,
            "peak_memory_mb": 1.0,
        }

    monkeypatch.setattr(job, "measure_row", measure)
    shown: list[int] = []
    again = main_job(small_request(seeds=(1, 2, 13), resume=True), ONE, shown=lambda row: shown.append(row["seed"]))
    assert done == [2, 13]  # the failed one is tried again
    assert shown == [1, 2, 13]
    assert again.summary["covariance-wiener: right structures"] == "3 of 3"
    main_job(small_request(seeds=(1,)), ONE, shown=nothing)
    assert done == [2, 13, 1]


@pytest.mark.usefixtures("at_once")
def test_structures_of_too_fine_a_pixel_stand_apart(small_request: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "FINEST_PIXEL_ANGSTROM", 100.0)
    results = main_job(small_request(), ONE, shown=nothing)
    assert results.rows[0]["apart"]
    assert results.summary["covariance-wiener: right structures"] == "0 of 0"


@pytest.mark.slow
def test_the_real_command_finds_a_small_molecule(small_request: Make) -> None:
    from clarice.benchmark.measured import CLARICE
    from clarice.benchmark.protocol import StackSettings

    settings = StackSettings(particles=300, box=32, snr=0.5)
    request = small_request(program=CLARICE, settings=settings, timeout_seconds=600.0)
    row = main_job(request, ONE, shown=nothing).rows[0]
    assert row["verdict"] == "right", row
    assert list(row["stage_seconds"])[:2] == ["check", "prepare"]
