"""Batches made ahead of time."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
import torch

from clarice.training.prefetch import AHEAD, Prefetcher, tensors_in

CPU = torch.device("cpu")


def test_every_position_gets_its_batch_and_each_is_made_once() -> None:
    made: list[int] = []

    def make(position: int) -> int:
        made.append(position)
        return position**2

    batches = Prefetcher(make, CPU, end=8)
    assert [batches.take(position) for position in range(3, 8)] == [9, 16, 25, 36, 49]
    batches.close()
    assert made == [3, 4, 5, 6, 7]


def test_the_next_batch_is_made_while_one_is_used() -> None:
    begun = threading.Event()

    def make(position: int) -> int:
        if position == 1:
            begun.set()
        return position

    batches = Prefetcher(make, CPU)
    batches.take(0)
    assert begun.wait(10)
    batches.close()


def test_a_jump_drops_what_was_made_ahead() -> None:
    batches = Prefetcher(lambda position: position, CPU)
    assert batches.take(0) == 0
    assert batches.take(100) == 100
    assert batches.take(5) == 5
    assert len(batches._waiting) == AHEAD
    batches.close()


def test_a_failure_reaches_whoever_takes_the_batch() -> None:
    def make(position: int) -> int:
        if position == 1:
            raise ValueError("no such batch")
        return position

    batches = Prefetcher(make, CPU)
    assert batches.take(0) == 0
    with pytest.raises(ValueError, match="no such batch"):
        batches.take(1)
    batches.close()


def test_tensors_are_found_in_whatever_holds_them() -> None:
    @dataclass
    class Batch:
        a: torch.Tensor
        b: torch.Tensor | None
        rest: dict[str, list[torch.Tensor]]

    one, two = torch.zeros(1), torch.ones(2)
    found = list(tensors_in([Batch(one, None, {"x": [two, one]}), "text"]))
    assert [id(t) for t in found] == [id(one), id(two), id(one)]
