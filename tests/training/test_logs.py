"""The table of what training tells."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path

import pytest
import torch

from clarice.core.errors import InputError, UsageError
from clarice.training.logs import LogTable, RunningMeans, TensorBoard, average_of, means


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_appear_when_they_are_needed_and_keep_their_order(tmp_path: Path) -> None:
    table = LogTable(tmp_path / "log.csv", None)
    table.write({"images": 0, "validation_error": 0.9, "seconds": 0.1})
    table.write({"images": 1234567, "loss": 0.123456789, "worst": 2.0, "learning_rate": 1e-3, "seconds": 12.0})
    table.write({"images": 1234568, "loss": 0.5, "seconds": 13.0})
    found = rows(tmp_path / "log.csv")
    assert list(found[0]) == [
        *("images", "loss", "validation_error", "worst"),
        *("gradient_norm", "learning_rate", "images_per_second", "seconds"),
    ]
    assert [row["images"] for row in found] == ["0", "1234567", "1234568"]
    assert [row["loss"] for row in found] == ["", "0.123457", "0.5"]
    assert found[2]["worst"] == ""


def test_rows_beyond_the_checkpoint_are_dropped_and_a_cut_row_does_not_hurt(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    table = LogTable(path, None)
    for images in (10, 20, 30):
        table.write({"images": images, "loss": 1 / images})
    path.write_text(path.read_text() + "40,0.0")
    again = LogTable(path, 20)
    again.write({"images": 25, "loss": 0.1})
    assert [row["images"] for row in rows(path)] == ["10", "20", "25"]


def test_a_new_table_replaces_an_old_one(tmp_path: Path) -> None:
    LogTable(tmp_path / "log.csv", None).write({"images": 10, "loss": 1.0})
    LogTable(tmp_path / "log.csv", None).write({"images": 0, "loss": 2.0})
    assert [row["loss"] for row in rows(tmp_path / "log.csv")] == ["2"]


def test_another_table_is_not_taken_for_a_log(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a training log"):
        LogTable(tmp_path / "log.csv", 10)


def test_means_go_on_exactly_from_a_saved_state() -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(1))
    straight, halted = RunningMeans(), RunningMeans()
    for number, value in enumerate(values):
        straight.add({"loss": value})
        halted.add({"loss": value})
        if number == 11:
            state = halted.state()
            halted = RunningMeans()
            halted.restore(state)
    assert straight.state() == halted.state()
    assert means([straight.state()])["loss"] == pytest.approx(float(values.double().mean()), rel=1e-12)


def test_means_are_taken_over_processes_and_over_the_steps_that_had_the_figure() -> None:
    assert means([{"a": (3.0, 2)}, {"a": (1.0, 2), "b": (5.0, 1)}]) == {"a": 1.0, "b": 5.0}
    assert math.isnan(means([{"a": (math.nan, 1)}])["a"])
    assert means([{}]) == {}


def test_another_number_of_processes_goes_on_with_their_average() -> None:
    two = [{"a": (3.0, 2)}, {"a": (1.0, 2)}]
    assert average_of(two) == {"a": (2.0, 2)}
    assert means([average_of(two)] * 3) == means(two) == {"a": 1.0}


def test_tensorboard_is_written_where_it_is_installed(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(UsageError, match="tensorboard"):
            TensorBoard(tmp_path, 0)
        return
    board = TensorBoard(tmp_path, 0)
    board.write({"images": 5, "loss": 0.5})
    board.close()
    assert list(tmp_path.glob("events*"))
