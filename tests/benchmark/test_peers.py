"""The peers' frame: rows of ours, a row that says so for a peer that is missing, ratios."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clarice.benchmark import contest, peer_relion, peers
from clarice.benchmark.code_version import code_version
from clarice.benchmark.contest import CLASSIFY, FIRST_MAP, RELION_CLASSES, RELION_MODEL, WHOLE_RUN, PeerRequest
from clarice.benchmark.main_job import Request
from clarice.benchmark.measured import Usage
from clarice.benchmark.peer_aspire import PYTHON_VARIABLE
from clarice.benchmark.peers import summarise
from clarice.benchmark.protocol import SimulatedStack
from clarice.benchmark.records import Row

Make = Callable[..., Request]


def nothing(_: Row) -> None:
    """Shows no row."""


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_relion, "PROGRAMS", ("relion_of_nobody",))
    monkeypatch.setenv(PYTHON_VARIABLE, "nowhere/python")


@pytest.mark.usefixtures("no_peers")
def test_missing_peers_are_rows_that_say_so(small_request: Make) -> None:
    request = PeerRequest(small_request())
    results = peers.peers(request, shown=nothing)
    rows = {(row["comparison"], row["method"]): row for row in results.rows}
    assert len(rows) == 12
    absent = [row for row in rows.values() if row.get("failed")]
    assert len(absent) == 7
    assert all("not installed" in row["note"] for row in absent)
    classes, first, whole = rows["classes", CLASSIFY], rows["map", FIRST_MAP], rows["map", WHOLE_RUN]
    assert classes["purity"] > 0.3
    assert classes["view_spread_deg"] < 30
    assert first["seconds"] == pytest.approx(whole["seconds"] - 0.01, abs=0.011)
    assert whole["orientation_median_deg"] < 0.1
    assert rows["denoise", "clarice covariance-wiener"]["nrmse"] < 1
    record = json.loads((request.base.out / "peers.json").read_text())
    assert len(record["rows"]) == 12


@pytest.mark.usefixtures("no_peers")
def test_resuming_keeps_what_came_to_an_end(small_request: Make) -> None:
    first = peers.peers(PeerRequest(small_request(), ("classes",)), shown=nothing)
    shown: list[str] = []
    request = PeerRequest(small_request(resume=True), ("classes",))
    again = peers.peers(request, shown=lambda row: shown.append(row["method"]))
    assert shown == [RELION_CLASSES]
    assert again.rows[0] == first.rows[0]


def test_a_resumed_call_takes_a_run_of_the_same_code_and_settings_only(
    small_request: Make, small_stack: SimulatedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []

    def run(stack: SimulatedStack, folder: Path, request: Request, method: str) -> Usage:
        started.append(folder)
        folder.mkdir(exist_ok=True)
        (folder / "particles.star").write_text("")
        return Usage(0, float(len(started)), 1.0, 1.0)

    monkeypatch.setattr(contest, "run_clarice", run)

    def seconds(**changes: object) -> float:
        request = PeerRequest(small_request(**{"resume": True, **changes}))
        return contest.Contest(small_stack, tmp_path, request).run[1].seconds

    assert [seconds(), seconds(), seconds(resume=False), seconds()] == [1, 1, 2, 2]
    assert [seconds(threads=2), seconds(threads=2)] == [3, 3]
    other = replace(code_version(), source_sha256="0" * 64)
    monkeypatch.setattr(contest, "code_version", lambda: other)
    assert [seconds(threads=2), seconds(threads=2)] == [4, 4]
    (tmp_path / "run_usage.json").write_text("{}")
    assert seconds(threads=2) == 5


def test_ratios_are_peer_over_ours_and_name_what_is_left_out(small_request: Make) -> None:
    results = small_request().results("peers", 1, peers._KEYS, peers.COLUMNS)

    def put(method: str, entry: str, seconds: float, resolution: float, **more: object) -> None:
        row = {"comparison": "map", "entry": entry, "seed": 1, "method": method, "seconds": seconds}
        results.put({**row, "fsc_05_angstrom": resolution, **more})

    for entry in ("a", "b", "c"):
        put(FIRST_MAP, entry, 10.0, 20.0)
        put(WHOLE_RUN, entry, 50.0, 10.0)
        put(RELION_MODEL, entry, 200.0, 30.0)
    put(RELION_MODEL, "d", 99.0, 0.0, failed=True)
    summarise(results)
    texts = results.summary
    assert texts[f"map: {RELION_MODEL} / {FIRST_MAP}, time"].startswith("20.00× (95 %: 20.00 to 20.00")
    assert texts[f"map: {RELION_MODEL} / {WHOLE_RUN}, time"].startswith("4.00×")
    key = f"map: {RELION_MODEL} / {FIRST_MAP}, fsc_05_angstrom (above 1: ours is better)"
    assert texts[key].startswith("1.50×")
    assert texts[f"map: {RELION_MODEL}"].startswith("1 without result")
    assert not [name for name in texts if "classes" in name]
    put(RELION_MODEL, "c", 200.0, 30.0, lower_bound=True)
    summarise(results)
    assert results.summary[f"map: {RELION_MODEL} / {FIRST_MAP}, time"].startswith("at least 20.00×")


def test_quick_rows_say_that_they_measure_nothing(small_request: Make) -> None:
    settings = PeerRequest(small_request(), quick=True).relion(seed=3)
    assert (settings.class_iterations, sum(settings.model_iterations), settings.seed) == (2, 25, 3)
    results = peers.peers(PeerRequest(small_request(entries=()), quick=True), shown=nothing)
    assert any(note.startswith("quick:") for note in results.notes)
    assert results.settings["quick"] is True
