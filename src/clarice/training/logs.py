"""What training writes down as it goes: a CSV table, and TensorBoard's files where they are asked for."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clarice.core.errors import InputError, UsageError
from clarice.io.atomic import writing

LOG_NAME = "log.csv"
_FIRST = ("images", "loss")
_LAST = ("gradient_norm", "learning_rate", "images_per_second", "seconds")
Row = Mapping[str, float]


class RunningMeans:
    """Means of named figures since the last row, in float64 on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor | float, int]] = {}

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Counts one step's figures."""
        for name, value in figures.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (value.detach().double() + total, count + 1)

    def state(self) -> dict[str, tuple[float, int]]:
        """Sums and counts as plain numbers, from which `restore` goes on exactly."""
        names = list(self._sums)
        on_device = [torch.as_tensor(self._sums[name][0], dtype=torch.float64) for name in names]
        totals = torch.stack([t.cpu() for t in on_device]).tolist() if names else []
        return {name: (total, self._sums[name][1]) for name, total in zip(names, totals, strict=True)}

    def restore(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Goes on from what `state` gave."""
        self._sums = {name: (float(total), int(count)) for name, (total, count) in state.items()}

    def clear(self) -> None:
        """Begins anew."""
        self._sums = {}


def means(states: list[dict[str, tuple[float, int]]]) -> dict[str, float]:
    """Means over steps and processes of the sums and counts of each process."""
    names = dict.fromkeys(name for state in states for name in state)
    found = {}
    for name in names:
        entries = [state[name] for state in states if name in state]
        found[name] = math.fsum(total for total, _ in entries) / sum(count for _, count in entries)
    return found


def average_of(states: list[dict[str, tuple[float, int]]]) -> dict[str, tuple[float, int]]:
    """The mean of several processes' sums and counts: what each of another number of processes goes on with."""
    names = dict.fromkeys(name for state in states for name in state)
    entries = {name: [state[name] for state in states if name in state] for name in names}
    return {
        name: (math.fsum(total for total, _ in found) / len(found), sum(count for _, count in found) // len(found))
        for name, found in entries.items()
    }


class LogTable:
    """`log.csv`: a row whenever there is something to tell; columns appear with the first row that needs them."""

    def __init__(self, path: Path, until_images: int | None) -> None:
        """Goes on with the rows up to `until_images`, of a checkpoint; None begins a new table."""
        self.path = path
        self._rows = [] if until_images is None else [r for r in _read(path) if float(r["images"]) <= until_images]
        self._columns = [name for row in self._rows[:1] for name in row]
        self._rewrite()

    def write(self, row: Row) -> None:
        """Appends a row, complete on disk when this returns."""
        texts = {name: _text(value) for name, value in row.items()}
        self._rows.append(texts)
        if not set(texts) <= set(self._columns):
            known = [name for name in self._columns if name not in _FIRST + _LAST]
            new = [name for name in texts if name not in known and name not in _FIRST + _LAST]
            self._columns = [*_FIRST, *known, *new, *_LAST]
            self._rewrite()
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, restval="", lineterminator="\n").writerow(texts)

    def close(self) -> None:
        """Rows are on disk already."""

    def _rewrite(self) -> None:
        with writing(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            if self._columns:
                table.writeheader()
            table.writerows(self._rows)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # A kill in the midst of a line leaves a row that is short; the checkpoint is older than it.
    whole = [row for row in rows if None not in row.values()]
    if whole and "images" not in whole[0]:
        raise InputError(f"{path} is not a training log: choose another run folder")
    return [{name: value or "" for name, value in row.items()} for row in whole]


def last_validation(run_folder: Path) -> tuple[int, dict[str, float]]:
    """After how many images a run was last validated by its log, and each figure by name; none when it never was."""
    prefix = "validation_"
    rows = [row for row in _read(run_folder / LOG_NAME) if row.get("validation_error")]
    if not rows:
        return 0, {}
    figures = {k.removeprefix(prefix): float(v) for k, v in rows[-1].items() if k.startswith(prefix) and v}
    return int(rows[-1]["images"]), figures


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


class TensorBoard:
    """TensorBoard's event files in `folder`, going on at `images`."""

    def __init__(self, folder: Path, images: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("--tensorboard needs the package tensorboard: install it, or read log.csv") from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=images or None)

    def write(self, row: Row) -> None:
        """Adds the figures of a row of the log."""
        for name, value in row.items():
            if name != "images":
                self._writer.add_scalar(name, value, int(row["images"]))

    def close(self) -> None:
        """Flushes what is not on disk yet."""
        self._writer.close()
