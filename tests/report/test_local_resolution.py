"""The report's part on local resolution, from a run folder that has it, lacks it, or holds it damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.report.fake_run import BOX, PIXEL_ANGSTROM

from clarice.io.mrc import write_mrc
from clarice.pipeline.postprocess import postprocessed
from clarice.report.folder import RunFiles
from clarice.report.local_resolution import local_resolution
from clarice.report.page import render


@pytest.fixture
def folder(copied_run: Callable[[], Path]) -> Path:
    run = copied_run()
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(BOX,) * 3)
    halves = [(signal + rng.normal(size=signal.shape)).astype(np.float32) for _ in range(2)]
    mask = np.zeros((BOX,) * 3, dtype=np.float32)
    mask[2:-2, 2:-2, 2:-2] = 1
    made = postprocessed((halves[0], halves[1]), mask, PIXEL_ANGSTROM, np.full(BOX // 2 + 1, 0.5), BOX // 2)
    for name, values in (("local_resolution", made.local_resolution_angstrom), ("mask", mask)):
        (run / f"{name}.mrc").unlink(missing_ok=True)
        write_mrc(run / f"{name}.mrc", values, PIXEL_ANGSTROM, is_volume=True)
    (run / "postprocess.json").write_text(json.dumps(made.record))
    return run


def test_slices_charts_and_facts(folder: Path) -> None:
    found = local_resolution(RunFiles(folder))
    assert found is not None
    assert [plane.axis for plane in found.planes] == ["z", "y", "x"]
    assert [chart.title for chart in found.charts] == ["Resolution by place", "Resolution by direction"]
    facts, record = dict(found.facts), json.loads((folder / "postprocess.json").read_text())
    assert facts["Worst over best"] == f"{record['by_direction']['worst_over_best']:.2f}"
    page = render(RunFiles(folder))
    assert "Local resolution" in page
    assert "Resolution by direction" in page


def test_a_folder_without_it_has_no_such_part(folder: Path) -> None:
    (folder / "postprocess.json").unlink()
    assert local_resolution(RunFiles(folder)) is None
    assert "Resolution by direction" not in render(RunFiles(folder))


@pytest.mark.parametrize(
    "damaged",
    [
        {"by_direction": {"directions": [[1, 2], [3]], "resolution_angstrom": [1, 2]}},
        {"by_direction": {"directions": [[0, 0, 1]] * 4, "resolution_angstrom": [1, None, 2, 3]}},
        {"by_direction": {"directions": [[0, 0, 1], [0, 1, 0], [1, 0, 0]]}},
        {"by_direction": [], "local_resolution": 3},
        {"by_direction": {"directions": "north", "resolution_angstrom": {}}, "local_resolution": None},
    ],
)
def test_damage_costs_no_more_than_the_part(folder: Path, damaged: dict[str, object]) -> None:
    (folder / "postprocess.json").write_text(json.dumps(damaged))
    found = local_resolution(RunFiles(folder))
    assert found is None or not found.charts
    assert "<html" in render(RunFiles(folder))
