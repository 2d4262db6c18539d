"""Shares of a batch: how large a part is, and by which batch memory is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.toy_task import ToySettings, ToyTask

from clarice.core.errors import ResourceError
from clarice.training.learner import Learner
from clarice.training.memory import MemoryEstimate
from clarice.training.processes import Processes
from clarice.training.settings import TrainingSettings
from clarice.training.shares import Shares


class Uneven(ToyTask):
    """Batch 7 shows the same sets four times."""

    def largest(self, position: int) -> int:
        return max(position, 7)

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> dict[str, torch.Tensor]:
        found = super().batch(position, rank, world, device)
        return {name: tensor.repeat(4 if position == 7 else 1, 1, 1) for name, tensor in found.items()}


def shares_of(task: ToyTask, told: list[str]) -> tuple[Shares, Learner]:
    processes = Processes("cpu")
    with torch.random.fork_rng([]):
        learner = Learner(task, TrainingSettings(), 0, processes)
    return Shares(task, processes, 1, Path("toy.yaml"), told.append), learner


def megabytes(sentence: str) -> float:
    return float(sentence.split(" images about ")[1].split(" MB")[0])


def test_memory_is_measured_by_the_largest_batch_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clarice.training.memory.MEGABYTE", 1.0)  # bytes: the network is small
    told: list[str] = []
    for task in (ToyTask(ToySettings(), 1), Uneven(ToySettings(), 1)):
        shares, learner = shares_of(task, told)
        shares.fit_into_memory(learner, 0)
    plain, uneven = (megabytes(line.replace(",", "")) for line in told)
    assert uneven == pytest.approx(4 * plain, rel=0.1)


def test_a_set_is_the_smallest_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "clarice.training.shares.estimate_memory", lambda *_: MemoryEstimate(1, 1.0, share_mb=1000.0, free_mb=100.0)
    )
    shares, learner = shares_of(ToyTask(ToySettings(), 1), [])
    with pytest.raises(ResourceError, match="does not go into 16: make the batch, its sets or the network"):
        shares.fit_into_memory(learner, 0)
