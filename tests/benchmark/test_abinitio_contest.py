"""First maps compared: every way judged alike, failures and missing peers told, stacks as the cell says."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.benchmark.conftest import FAKE, SMALL

from clarice.benchmark import abinitio_methods, peer_relion
from clarice.benchmark.abinitio_contest import AbinitioRequest, abinitio_contest
from clarice.benchmark.abinitio_methods import ASPIRE, PROJECTION_MATCHING, RELION, Limits, map_methods
from clarice.benchmark.map_pictures import TRUTH, ShownMap
from clarice.benchmark.measured import Usage
from clarice.benchmark.peer_aspire import PYTHON_VARIABLE
from clarice.benchmark.peer_relion import RelionJob, RelionSettings
from clarice.benchmark.protocol import SimulatedStack, make_stack
from clarice.benchmark.records import Row
from clarice.benchmark.structures import load_subject
from clarice.cli.benchmark_abinitio import benchmark_abinitio, tell_row
from clarice.core.errors import ResourceError, UsageError

pytestmark = pytest.mark.usefixtures("at_once")
LINES = "lines+covariance-wiener"
# A program in ASPIRE's place, whose map is a ball that stands off the centre.
STAND_IN = f"""#!{sys.executable}
import sys
import numpy as np
with np.load(sys.argv[-2]) as given:
    box = given["images"].shape[1]
    assert len(given["voltage"]) == len(given["images"])
axis = np.arange(box) - box // 2
z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
np.savez(sys.argv[-1], volume=np.exp(-(x**2 + y**2 + (z - 2) ** 2) / 20.0), seconds=1.5, version="9.9")
"""


def nothing(_: Row) -> None:
    """Shows no row."""


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., AbinitioRequest]:
    def make(names: tuple[str, ...], seeds: tuple[int, ...] = (1,), **changes: object) -> AbinitioRequest:
        limits = Limits(tmp_path / "work", threads=1, timeout_seconds=120, program=FAKE)
        fields: dict[str, object] = {
            "subjects": [load_subject("molecule-105", None)],
            "collection": "procedural molecules",
            "seeds": seeds,
            "snrs": (0.5,),
            "ctfs": ("on",),
            "methods": map_methods(names, limits),
            "settings": SMALL,
            "data": None,
            "out": tmp_path / "out",
            "work": tmp_path / "work",
            "threads": 1,
        }
        return AbinitioRequest(**{**fields, **changes})  # type: ignore[arg-type]

    return make


def test_a_right_map_and_a_wrong_one(request_for: Callable[..., AbinitioRequest], tmp_path: Path) -> None:
    """Seed 14 gives noise for a map, with poses that are right all the same; seed 13 fails."""
    results = abinitio_contest(request_for((LINES, PROJECTION_MATCHING), seeds=(1, 13, 14)), shown=nothing)
    rows = {(row["seed"], row["method"]): row for row in results.rows}
    assert len(rows) == 6
    for method in (LINES, PROJECTION_MATCHING):
        right, failed, wrong = (rows[seed, method] for seed in (1, 13, 14))
        assert right["verdict"] == right["first_verdict"] == "right"
        assert right["orientation_median_deg"] < 0.1
        assert right["common_lines"] == 1
        assert right["symmetry"] == "C2"
        assert right["first_05_px"] == right["fsc_05_px"]  # the stand-in's refinement changes nothing
        assert right["first_orientation_median_deg"] == right["orientation_median_deg"]
        assert 0 < right["first_memory_mb"] <= right["peak_memory_mb"]
        assert 0 < right["first_seconds"] < right["seconds"]
        assert wrong["verdict"] == wrong["first_verdict"] == "not found"
        assert failed["verdict"] == failed["first_verdict"] == "failed"
        assert "bad luck" in failed["note"]
    summary = results.summary[f"CTF and shifts on, SNR 0.5, {LINES}"]
    assert summary.startswith("first map right 1 of 3 (0.33); refined right 1 of 3 (0.33); first map's FSC 0.5 ")
    assert "not found" in results.markdown()
    assert "| first map | first map, FSC 0.5, px |" in results.markdown()
    # Maps and curves of the first seed are drawn.
    names = {f"abinitio-{stage}-snr-0.5-ctf-on{kind}.png" for stage in ("first", "refined") for kind in ("", "-fsc")}
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == names
    kept = ShownMap.load(next((tmp_path / "work").rglob(f"*_seed1_*/{LINES}-refined.npz")))
    truth = ShownMap.load(next((tmp_path / "work").rglob(f"*_seed1_*/{TRUTH}.npz")))
    assert np.corrcoef(kept.projection.ravel(), truth.projection.ravel())[0, 1] > 0.95  # it lies on the truth
    assert kept.curve[:8].min() > 0.5


def test_a_first_map_that_could_not_be_refined_is_still_told_of(
    request_for: Callable[..., AbinitioRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = abinitio_methods.run_measured

    def run(command: Sequence[object], **more: object) -> Usage:
        return Usage(1, 1.0, 1.0, 1.0, "enough") if "refine" in command else measured(command, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(abinitio_methods, "run_measured", run)
    (row,) = abinitio_contest(request_for((PROJECTION_MATCHING,)), shown=nothing).rows
    assert (row["first_verdict"], row["verdict"], row["failed"]) == ("right", "failed", True)
    assert row["note"] == "the first map was not refined: enough"


def test_relion_goes_on_in_a_folder_of_each_stack(
    request_for: Callable[..., AbinitioRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has so far is judged and refined like any first map; its files stay for the next call."""
    asked: list[tuple[Path, RelionSettings]] = []

    def model(stack: SimulatedStack, folder: Path, settings: RelionSettings) -> RelionJob:
        asked.append((folder, settings))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kept").touch()
        usage = Usage(-9, 60.0, 0.0, 0.0, "ended after 60 s", timed_out=True)
        return RelionJob(usage, stack.folder / "truth.star", stack.true_map, (), iteration=5)

    monkeypatch.setattr(abinitio_methods, "initial_model", model)
    monkeypatch.setattr(abinitio_methods.relion, "missing", lambda: None)
    monkeypatch.setattr(abinitio_methods.relion, "version", lambda: "RELION 9.9")
    limits = Limits(request_for((RELION,)).work, threads=1, timeout_seconds=120, program=FAKE, resume=True)
    request = request_for((RELION,), seeds=(1, 2), snrs=(0.5, 0.2), methods=map_methods((RELION,), limits))
    rows = abinitio_contest(request, shown=nothing).rows
    assert len({folder for folder, _ in asked}) == 4
    assert all((folder / "kept").is_file() for folder, _ in asked)
    assert all(settings.resume for _, settings in asked)
    for row in rows:
        assert (row["first_verdict"], row["verdict"], row["lower_bound"]) == ("right", "right", True)
        assert row["seconds"] > row["first_seconds"] == 60
        assert row["note"].startswith("RELION 9.9, 250 iterations; ended after 60 s in or after iteration 5")


def test_a_method_is_told_the_symmetry_where_its_name_says_so(
    request_for: Callable[..., AbinitioRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, str]] = []
    measured = abinitio_methods.run_measured

    def run(command: Sequence[object], **more: object) -> Usage:
        words = [str(word) for word in command]
        name = next(word for word in words if word in ("abinitio", "refine"))
        called.append((name, words[words.index("--symmetry") + 1]))
        return measured(command, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(abinitio_methods, "run_measured", run)
    abinitio_contest(request_for(("both@symmetry", "both")), shown=nothing)
    assert called == [("abinitio", "C2"), ("refine", "C2"), ("abinitio", "C1"), ("refine", "C1")]


def test_wide_shifts_are_looked_for_as_wide(
    request_for: Callable[..., AbinitioRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def run(command: Sequence[object], **_: object) -> Usage:
        called.append([str(word) for word in command])
        return Usage(1, 1.0, 1.0, 1.0, "enough")

    monkeypatch.setattr(abinitio_methods, "run_measured", run)
    stack = make_stack(load_subject("molecule-105", None), 1, SMALL, tmp_folder := request_for(("both",)).work, None)
    for reach in (None, 7.0):
        (method,) = map_methods(("both",), Limits(tmp_folder, max_shift_px=reach))
        with pytest.raises(ResourceError, match="enough"):
            method.measure(stack)
    usual, wide = called
    assert "--max-shift" not in usual
    assert float(wide[wide.index("--max-shift") + 1]) == pytest.approx(7 * stack.pixel_size_angstrom, abs=1e-3)


def test_cells_without_ctf_are_not_shifted(request_for: Callable[..., AbinitioRequest]) -> None:
    request = request_for((PROJECTION_MATCHING,), ctfs=("on", "off"))
    on, off = (request.stack_settings(ctf, 0.02).simulation(1, None) for ctf in ("on", "off"))
    assert (on.ctf, on.max_shift_px, on.snr) == (True, SMALL.max_shift_px, 0.02)
    assert (off.ctf, off.max_shift_px, off.snr) == (False, 0.0, 0.02)
    results = abinitio_contest(request, shown=nothing)
    assert [row["ctf"] for row in results.rows] == ["on", "off"]
    assert all(row["verdict"] == "right" for row in results.rows)


@pytest.mark.parametrize("ctf", ["on", "off"])
def test_aspires_map_is_judged_like_ours(
    request_for: Callable[..., AbinitioRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ctf: str
) -> None:
    program = tmp_path / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(program))
    row = abinitio_contest(request_for((ASPIRE,), ctfs=(ctf,)), shown=nothing).rows[0]
    assert (row["first_seconds"], row["note"]) == (1.5, "ASPIRE 9.9")
    assert row["seconds"] > 1.5
    assert row["first_05_px"] == row["fsc_05_px"] > 2  # the stand-in's refinement changes nothing
    assert row["first_orientation_median_deg"] is None


def test_missing_peers_are_rows_that_say_so_and_do_not_count(
    request_for: Callable[..., AbinitioRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_relion, "PROGRAMS", ("relion_of_nobody",))
    monkeypatch.setenv(PYTHON_VARIABLE, "nowhere/python")
    results = abinitio_contest(request_for((ASPIRE, RELION)), shown=nothing)
    assert all("not installed" in row["note"] for row in results.rows)
    assert results.summary == {}


def test_a_row_tells_of_both_maps_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    key: Row = {"entry": "molecule-105", "seed": 1, "ctf": "on", "snr": 0.5, "method": RELION}
    first: Row = {"first_verdict": "not found", "first_05_px": 6.1}
    tell_row({**key, **first, "verdict": "right", "fsc_05_px": 2.5, "seconds": 90.0})
    tell_row({**key, **first, "verdict": "failed", "failed": True, "note": "it was not refined"})
    tell_row({**key, "first_verdict": "failed", "verdict": "failed", "failed": True, "note": "bad luck"})
    both, unrefined, nothing = (line.rpartition(": ")[2] for line in capsys.readouterr().out.strip().splitlines())
    assert both == "first map not found, 6.10 px, refined right, 2.50 px, 90 s"
    assert unrefined == "first map not found, 6.10 px, it was not refined"
    assert nothing == "bad luck"


def test_as_much_time_is_given_as_peers_have() -> None:
    """RELION's initial model takes more than an hour."""
    assert inspect.signature(benchmark_abinitio).parameters["timeout"].default == 180


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(UsageError, match="lines\\+polar-transformer"):
        map_methods(("magic",), Limits(Path()))
    assert [method.name for method in map_methods(("both@symmetry",), Limits(Path()))] == ["both@symmetry"]
    with pytest.raises(UsageError):
        map_methods(("relion@symmetry",), Limits(Path()))
