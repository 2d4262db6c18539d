"""What tests compare of two training runs."""

from __future__ import annotations

import csv
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clarice.training.checkpoint import LAST, Checkpoints, Place
from clarice.training.loop import train
from clarice.training.recipe import read_recipe
from clarice.training.summary import Outcome

ROOT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name("toy_task.py")
TIMES = ("images_per_second", "seconds")


def trained(recipe: Path, folder: Path, *changes: str, **options: Any) -> Outcome:
    return train(read_recipe(recipe, changes), folder, device="cpu", **options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks this small are slower on several threads; and no test cuts the power, so no disk is waited for."""
    monkeypatch.setattr("clarice.io.atomic.os.fsync", lambda _descriptor: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stop_after(images: int) -> Callable[[str, int, int], None]:
    """A progress that sends this process a signal after so many images of the session."""

    def progress(_label: str, done: int, _total: int) -> None:
        if done == images:
            signal.raise_signal(signal.SIGUSR1)

    return progress


def last(folder: Path) -> tuple[dict[str, Tensor], Place]:
    return Checkpoints(folder, 16).load(LAST)


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{name: text for name, text in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, average, moments, log and validations are the same, bit for bit."""
    (tensors, place), (others, another) = last(one), last(other)
    assert list(tensors) == list(others)
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []
    assert (place.position, place.validations, place.best) == (another.position, another.validations, another.best)
    assert log(one) == log(other)


def environment() -> dict[str, str]:
    """For programs: our packages, and one thread as here."""
    return os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}


def toy_command(recipe: Path, folder: Path, *more: str) -> list[str]:
    return [sys.executable, str(TOY), "train", str(recipe), "--out", str(folder), "--device", "cpu", *more]
