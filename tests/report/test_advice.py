"""The section on advice: what `advice.json` says, and nothing where there is none or what it says is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report.fake_advice import made_advice
from tests.report.fake_run import replace_file

from clarice.report.advice import advice
from clarice.report.folder import RunFiles
from clarice.report.page import write_report


def test_defocus_ranges_are_a_table(finished_run: Path) -> None:
    found = advice(RunFiles(finished_run))
    assert found is not None
    assert [row.defocus_range for row in found.groups] == ["0.60–1.20 µm", "1.20–1.80 µm", "1.80–2.40 µm"]
    assert found.groups[0].snr == "0.020 ± 0.004"
    # 300 · 0.02, 500 · 0.08 and 400 · 0.1
    assert [row.share.split("\u202f")[0] for row in found.groups] == ["7.0", "46.5", "46.5"]
    assert found.groups[0].contrast == "0.97 ± 0.02"


def test_the_curve_is_read_up_to_the_run_and_extrapolated_beyond(finished_run: Path) -> None:
    found = advice(RunFiles(finished_run))
    assert found is not None
    assert found.chart is not None
    assert [label for label, _ in found.chart.legend] == ["read off the half maps", "extrapolated"]
    assert str(found.chart.svg).count("<circle") == 3 + 4
    assert "the box sets the limit" in found.chart.caption


def test_what_to_collect_stands_on_the_page(finished_run: Path) -> None:
    page = write_report(finished_run).read_text(encoding="utf-8")
    section = page[page.index('<section id="advice"') : page.index('<section id="progress"')]
    for words in ("More particles pay", "less than half", "--classes 60 would suit", "Signal by defocus", "20.2"):
        assert words in section
    assert "Neighbours" not in section


def test_a_run_without_advice_makes_a_page(copied_run: Callable[..., Path]) -> None:
    run = copied_run()
    (run / "advice.json").unlink()
    assert advice(RunFiles(run)) is None
    assert "There is no advice yet" in write_report(run).read_text(encoding="utf-8")


def without_ctf() -> dict[str, Any]:
    content = made_advice()
    content["snr"]["groups"] = []
    return content


DAMAGED: list[dict[str, Any]] = [
    {"classes": None},
    {"snr": {"groups": [{}, {"snr": 3}]}, "resolution": {"predictions": [{}, {"ratio": 1}]}},
    {"collect": "views", "resolution": [], "snr": {"groups": "none"}},
    without_ctf(),
]


@pytest.mark.parametrize("content", DAMAGED, ids=["no classes", "empty rows", "wrong types", "no ctf"])
def test_what_is_missing_is_left_out(copied_run: Callable[..., Path], content: dict[str, Any]) -> None:
    run = copied_run()
    replace_file(run / "advice.json", json.dumps(content))
    page = write_report(run).read_text(encoding="utf-8")
    assert '<section id="advice"' in page
    assert ("Signal by defocus" in page) == bool(content.get("snr", {}).get("groups") not in ([], "none", None))
