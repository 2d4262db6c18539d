"""Shared-out work comes back in order, whatever the number of workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from clarice.core import parallel

MANY_WORKERS = """
import threading
import torch
from clarice.core.parallel import ordered_map, worker_count
assert worker_count() == 3
def work(i):
    # Numbers below the normal ones count as 0.
    assert not (torch.full((64,), 1e-38) * 1e-3).any()
    return i, threading.current_thread().name, list(ordered_map(str, range(i)))
results = list(ordered_map(work, range(20)))
assert [i for i, _, _ in results] == list(range(20))
assert all(inner == [str(k) for k in range(i)] for i, _, inner in results)
assert 1 < len({name for _, name, _ in results}) <= 3
assert (torch.full((64,), 1e-38) * 1e-3).all()  # the caller's thread is left as it was
print("in order")
"""


def test_order_is_kept_and_calls_may_nest() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    finished = subprocess.run(
        [sys.executable, "-c", MANY_WORKERS], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.stdout == "in order\n", finished.stderr


def test_results_wait_no_further_than_a_few_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    results = parallel.ordered_map(lambda number: number * number, items())
    assert next(results) == 0
    time.sleep(0.01)
    assert len(taken) <= 4
    assert list(results) == [number * number for number in range(1, 50)]


def test_an_error_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)

    def fail(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = parallel.ordered_map(fail, range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
