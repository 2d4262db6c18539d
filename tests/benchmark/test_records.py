"""Results on disk: whole files, rows kept on resuming, intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clarice.benchmark.records import Column, Results, bootstrap_interval, with_interval
from clarice.core.errors import InputError

COLUMNS = (Column("entry", "entry"), Column("seconds", "seconds", "{:.1f}"))


def results(**settings: object) -> Results:
    return Results("speed", 1, dict(settings), ("entry", "seed"), COLUMNS)


def test_rows_are_replaced_by_key_and_failures_are_not_finished() -> None:
    made = results(box=64)
    made.put({"entry": "a", "seed": 1, "failed": True, "seconds": 1.0})
    assert not made.finished(entry="a", seed=1)
    made.put({"entry": "a", "seed": 1, "seconds": 2.0})
    made.put({"entry": "a", "seed": 2, "seconds": 3.0})
    assert made.finished(entry="a", seed=1)
    assert [row["seconds"] for row in made.rows] == [2.0, 3.0]


def test_files_tell_circumstances_and_only_what_is_known(tmp_path: Path) -> None:
    made = results(box=64)
    made.put({"entry": "a|b", "seed": 1})
    made.summary = {"time": "1 s"}
    made.save(tmp_path)
    record = json.loads((tmp_path / "speed.json").read_text())
    assert {"clarice", "hardware", "settings", "trained_on", "protocol_version"} <= set(record)
    assert record["rows"][0]["made"]
    text = (tmp_path / "speed.md").read_text()
    assert "| a/b | – |" in text
    assert "- time: 1 s" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.json", "speed.md"]


def test_text_does_not_name_folders_of_the_machine() -> None:
    made = results()
    made.places = ("/somewhere/work",)
    made.put({"entry": "a", "seed": 1, "note": "cannot read /somewhere/work/a/map.mrc"})
    assert made.rows[0]["note"] == "cannot read a/map.mrc"


def test_resuming_takes_rows_of_the_same_settings_only(tmp_path: Path) -> None:
    made = results(box=64)
    made.put({"entry": "a", "seed": 1})
    made.save(tmp_path)
    same = results(box=64)
    same.take_up(tmp_path)
    assert same.finished(entry="a", seed=1)
    with pytest.raises(InputError, match="other settings"):
        results(box=32).take_up(tmp_path)
    (tmp_path / "speed.json").write_text("{")
    with pytest.raises(InputError, match="not a record"):
        same.take_up(tmp_path)


def test_interval_holds_the_mean_and_draws_structures_not_rows() -> None:
    rng = np.random.default_rng(0)
    values = {str(index): list(rng.normal(5, 1) + np.zeros(50)) for index in range(10)}
    means = np.array([group[0] for group in values.values()])
    interval = bootstrap_interval(values, lambda drawn: float(drawn.mean()))
    assert interval is not None
    standard_error = means.std() / np.sqrt(10)
    assert interval[0] == pytest.approx(means.mean() - 1.96 * standard_error, abs=0.3 * standard_error)
    assert interval[1] == pytest.approx(means.mean() + 1.96 * standard_error, abs=0.3 * standard_error)
    assert bootstrap_interval({"a": [1.0], "b": [2.0]}, np.mean) is None


def test_interval_as_text() -> None:
    rows = [{"entry": name, "x": value} for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", None))]
    text = with_interval(rows, "x", "{:.1f}", " s")
    assert text is not None
    assert text.startswith("2.0 s (95 %: ")
    assert "over 3 structures" in text
    assert with_interval(rows, "y", "{}") is None
