"""The protocol `denoise` on small sets: a row for each cell and method, failures that say why, rows that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarice.benchmark.denoise import DenoiseRequest, denoise
from clarice.benchmark.denoise_cells import Grid
from clarice.benchmark.denoise_methods import CLASSES, ORACLE, Method, chosen_methods, our_methods
from clarice.benchmark.denoise_scores import Answer
from clarice.benchmark.denoise_sets import ImageSet
from clarice.benchmark.records import Row
from clarice.benchmark.structures import load_subject
from clarice.core.errors import ResourceError, UsageError

Make = Callable[..., DenoiseRequest]


def nothing(_: Row) -> None:
    """Shows no row."""


def copied(sets: Sequence[ImageSet], setting: str) -> list[Answer]:
    return [Answer(one.noisy, 0.1) for one in sets]


def absent(sets: Sequence[ImageSet], setting: str) -> list[Answer]:
    raise ResourceError("not installed: nobody has it")


@pytest.fixture
def request_of(tmp_path: Path) -> Make:
    """Makes a request for one cell of two sets of 12 images of a molecule; keywords replace its fields."""

    def make(**changes: object) -> DenoiseRequest:
        fields: dict[str, object] = {
            "subjects": [load_subject("molecule-105", None)],
            "collection": "procedural molecules",
            "grid": Grid(["general"], [12], [0.5]),
            "methods": [Method("copied", copied), our_methods()["wiener"]],
            "out": tmp_path / "out",
            "work": tmp_path / "work",
            "sets": 2,
            "box": 32,
            "threads": 1,
        }
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "out").mkdir(exist_ok=True)
        return DenoiseRequest(**{**fields, **changes})  # type: ignore[arg-type]

    return make


def test_every_method_of_ours_has_a_row(request_of: Make) -> None:
    names = ["covariance-wiener", "wiener", CLASSES, ORACLE]
    request = request_of(methods=chosen_methods(names, our_methods(), {}))
    rows = {row["method"]: row for row in denoise(request, shown=nothing).rows}
    assert set(rows) == set(names)
    assert not any(row.get("failed") for row in rows.values())
    assert all(0 < row["relative_mse"] < 1 for row in rows.values())
    assert rows[ORACLE]["relative_mse"] < rows["wiener"]["relative_mse"]
    assert rows["wiener"]["null"] < 0.2
    assert rows[ORACLE]["null"] is None
    assert 0 < rows[CLASSES]["purity"] <= 1
    assert rows["wiener"]["over_covariance"] == pytest.approx(
        rows["wiener"]["relative_mse"] / rows["covariance-wiener"]["relative_mse"], rel=1e-3
    )
    assert list(request.work.glob("signals-*")) == []
    record = json.loads((request.out / "denoise.json").read_text())
    assert record["settings"]["sets"] == 2
    assert "molecule-105" in record["settings"]["structures"]
    with Image.open(request.out / "denoise-general-12-gaussian-ctf-off.png") as picture:
        assert picture.width > 6 * 128


def test_noise_itself_scores_as_its_power_says(request_of: Make) -> None:
    """x̂ = x + e: the error is 1 / SNR in the whole box, and power out of noise is that of noise over all."""
    row = denoise(request_of(methods=[Method("copied", copied)]), shown=nothing).rows[0]
    share = np.pi / 4  # of the box that the disk is; the particle lies inside
    assert row["relative_mse"] == pytest.approx(share / 0.5, rel=0.05)
    assert row["null"] == pytest.approx(share / (share + 0.5), rel=0.05)
    assert row["ms_per_image"] == pytest.approx(1000 * 0.1 / 12, rel=1e-3)


def test_a_method_that_fails_is_a_row_that_says_why(request_of: Make) -> None:
    results = denoise(request_of(methods=[Method("absent", absent), Method("copied", copied)]), shown=nothing)
    failed, fine = results.rows
    assert (failed["failed"], failed["note"]) == (True, "not installed: nobody has it")
    assert "relative_mse" in fine


def test_a_resumed_call_keeps_rows_and_adds_cells(request_of: Make) -> None:
    first = denoise(request_of(), shown=nothing).rows
    shown: list[float] = []
    wider = request_of(resume=True, grid=Grid(["general"], [12], [0.5, 0.2]))
    again = denoise(wider, shown=lambda row: shown.append(row["snr"])).rows
    assert shown == [0.2, 0.2]
    assert again[:2] == first
    assert len(again) == 4


def test_pictures_show_what_earlier_calls_found_too(request_of: Make) -> None:
    """Another method, and then another SNR, each in a call of its own."""
    sizes = []
    for changes in (
        {},
        {"methods": [Method("other", copied)]},
        {"methods": [Method("other", copied)], "grid": Grid(["general"], [12], [0.2])},
    ):
        request = request_of(resume=True, **changes)
        denoise(request, shown=nothing)
        with Image.open(request.out / "denoise-general-12-gaussian-ctf-off.png") as picture:
            sizes.append(picture.size)
    (width, height), (wider, same), (as_wide, higher) = sizes
    assert wider == width + 132  # a tile and its gap
    assert same == height
    assert (as_wide, higher) == (wider, height + 132)


def test_sheets_without_a_structure_are_left_out_with_a_note(request_of: Make) -> None:
    results = denoise(request_of(grid=Grid(["general"], [12], [0.5], ctfs=["on", "on-fine"])), shown=nothing)
    assert {row["ctf"] for row in results.rows} <= {"on", "on-fine"}
    assert len(results.rows) == 2
    assert any("left out" in note or "that side" in note for note in results.notes)


@pytest.mark.parametrize(("changes", "said"), [({"sets": 0}, "--sets"), ({"box": 8}, "--box")])
def test_unfit_settings_are_refused(request_of: Make, changes: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        request_of(**changes)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(UsageError, match="covariance-wiener"):
        chosen_methods(["tea"], our_methods(), {})
    with pytest.raises(UsageError, match="--methods"):
        chosen_methods([], our_methods(), {})
