"""Independent pieces of work on several threads, with results in order.

Tensor libraries share out single operations among threads that wait for one another. Here operations are many and
small, and on a busy machine that waiting costs more than it gains. So each worker runs its operations alone, and
the pieces are what is shared out. Results come in the order of the pieces, so that sums do not depend on how many
workers there are.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_thread = threading.local()


@lru_cache(maxsize=1)
def worker_count() -> int:
    """How many workers: OMP_NUM_THREADS where it is set, else the processors this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(asked) if asked.isdigit() and int(asked) > 0 else available


@lru_cache(maxsize=1)
def _workers() -> ThreadPoolExecutor:
    def prepare() -> None:
        _thread.is_worker = True
        run_operations_alone()

    return ThreadPoolExecutor(worker_count(), thread_name_prefix="clarice", initializer=prepare)


def run_operations_alone() -> None:
    """Makes the calling thread run each tensor operation by itself, as the workers do. For programs of our own.

    Numbers below the normal ones count as 0 there: faint probabilities and what is made of them are such numbers, and
    some processors calculate fifty times as slowly with them.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextmanager
def operations_shared() -> Iterator[None]:
    """Every tensor operation meanwhile is shared by all threads: for networks, whose operations are large."""
    before = torch.get_num_threads()
    torch.set_num_threads(worker_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`function` of each item, in order, computed by the workers; no more than a few results wait at a time.

    A call from within a worker, or with a single worker, computes in place.
    """
    if worker_count() == 1 or getattr(_thread, "is_worker", False):
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(_workers().submit(function, item))
            if len(waiting) > worker_count():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
