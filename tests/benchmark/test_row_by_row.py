"""What is kept, what is measured again, and that one failure costs one row only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from clarice.benchmark import row_by_row
from clarice.benchmark.code_version import CodeVersion
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.core.errors import InputError, ResourceError

OLD = CodeVersion("0.1.0", "a" * 64, "1" * 40, False)
NEW = replace(OLD, source_sha256="b" * 64, modified=True)
COLUMNS = (Column("entry", "entry"), Column("seconds", "seconds"))


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch):
    """Says which code is running."""

    def run_as(version: CodeVersion) -> None:
        monkeypatch.setattr(row_by_row, "code_version", lambda: version)

    run_as(OLD)
    return run_as


class Bench:
    """A protocol whose rows are measured at once; `failing` maps entries to what goes wrong with them."""

    def __init__(self, out: Path, **failing: Exception) -> None:
        self.out, self.failing = out, failing
        self.measured: list[str] = []
        self.shown: list[str] = []

    def task(self, entries: tuple[str, ...]) -> Task:
        def measure() -> Sequence[Row]:
            self.measured.extend(entries)
            for entry in entries:
                if entry in self.failing:
                    raise self.failing[entry]
            return [{"seconds": float(len(self.measured))} for _ in entries]

        return Task(tuple({"entry": entry} for entry in entries), measure)

    def __call__(self, *entries: str | tuple[str, ...], resume: bool = True, **options: object) -> Results:
        results = Results("speed", 1, {"box": 64}, ("entry",), COLUMNS)
        if resume:
            results.take_up(self.out)
        self.measured, self.shown = [], []
        tasks = (self.task((entry,) if isinstance(entry, str) else entry) for entry in entries)
        return measure_rows(
            results,
            tasks,
            self.out,
            summarise=lambda results: results.summary.update(rows=len(results.rows)),
            shown=lambda row: self.shown.append(row["entry"]),
            **options,  # type: ignore[arg-type]
        )


def test_a_failure_is_a_row_and_the_others_are_measured(code, tmp_path: Path) -> None:
    bench = Bench(tmp_path, b=InputError("b.star is empty"), c=ZeroDivisionError("division by zero"))
    rows = bench("a", "b", "c", "d", failure={"verdict": "failed"}).rows
    assert bench.shown == ["a", "b", "c", "d"]
    assert [row.get("failed", False) for row in rows] == [False, True, True, False]
    assert rows[1]["note"] == "b.star is empty"
    assert rows[2]["note"] == "ZeroDivisionError: division by zero"
    assert [row.get("verdict") for row in rows] == [None, "failed", "failed", None]
    assert json.loads((tmp_path / "speed.json").read_text())["rows"] == rows


def test_an_interruption_is_no_failure_and_leaves_the_rows_before_it(code, tmp_path: Path) -> None:
    bench = Bench(tmp_path, b=KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        bench("a", "b", "c")
    record = json.loads((tmp_path / "speed.json").read_text())
    assert [row["entry"] for row in record["rows"]] == ["a"]
    assert record["summary"] == {"rows": 1}


def test_a_row_during_which_the_code_changed_is_no_row(code, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    tasks = [bench.task(("a",)), Task(({"entry": "b"},), lambda: [code(NEW) or {"seconds": 1.0}])]
    results = Results("speed", 1, {"box": 64}, ("entry",), COLUMNS)
    with pytest.raises(ResourceError, match="changed during the benchmark"):
        measure_rows(results, tasks, tmp_path, summarise=lambda _: None, shown=lambda _: None)
    record = json.loads((tmp_path / "speed.json").read_text())
    assert [(row["entry"], row["source_sha256"][0]) for row in record["rows"]] == [("a", "a")]


def test_finished_rows_of_the_same_code_are_kept_and_failed_ones_tried_again(code, tmp_path: Path) -> None:
    first = Bench(tmp_path, b=InputError("no"))("a", "b")
    bench = Bench(tmp_path)
    again = bench("a", "b", "c")
    assert (bench.measured, bench.shown) == (["b", "c"], ["b", "c"])
    assert again.rows[0] == first.rows[0]
    bench("a", "d", show_kept=True)
    assert (bench.measured, bench.shown) == (["d"], ["a", "d"])
    bench("a", resume=False)
    assert bench.measured == ["a"]


def test_rows_of_other_code_are_measured_again_and_told_while_they_last(code, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench("a", "b", "c").remarks == []
    assert "source |" not in (tmp_path / "speed.md").read_text()
    code(NEW)
    mixed = bench("a", "b")
    assert bench.measured == ["a", "b"]
    assert [row["source_sha256"][0] for row in mixed.rows] == ["b", "b", "a"]
    said = "rows come from 2 versions of the code: 0.1.0, commit 111111111111 with uncommitted changes, source bbbbbbbb"
    assert mixed.remarks == [f"{said} (2); 0.1.0, commit 111111111111 (1)"]
    table = (tmp_path / "speed.md").read_text()
    assert said in table
    assert "| entry | seconds | source |" in table
    assert "| c | 3.0 | aaaaaaaa |" in table
    assert json.loads((tmp_path / "speed.json").read_text())["code"] == [vars(NEW), vars(OLD)]
    assert bench("a", "b", "c").remarks == []
    assert bench.measured == ["c"]


def test_rows_from_before_the_code_was_recorded_are_not_taken_for_ours(code, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench("a", "b")
    record = json.loads((tmp_path / "speed.json").read_text())
    for row in record["rows"]:
        for name in ("source_sha256", "commit", "modified"):
            del row[name]
    (tmp_path / "speed.json").write_text(json.dumps(record))
    mixed = bench("a")
    assert bench.measured == ["a"]
    assert "0.1.0, source not recorded (1)" in mixed.remarks[0]


def test_rows_measured_together_fail_together_but_spare_what_is_finished(code, tmp_path: Path) -> None:
    Bench(tmp_path)("a")
    bench = Bench(tmp_path, b=InputError("no"))
    rows = bench(("a", "b")).rows
    assert bench.shown == ["b"]
    assert [row.get("failed", False) for row in rows] == [False, True]
