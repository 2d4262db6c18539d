"""Work in batches that halve themselves when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from clarice.core.errors import ResourceError

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the CPU's or the accelerator's memory is exhausted."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def in_batches(count: int, size: int, work: Callable[[int, int], T]) -> Iterator[T]:
    """Yields `work(start, stop)` over 0..count in steps of `size`, halving the step when memory runs out.

    Raises ResourceError when even a single row does not fit.
    """
    start = 0
    while start < count:
        stop = min(start + size, count)
        try:
            result = work(start, stop)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise ResourceError(
                    "memory ran out on a single image: use a smaller working box (--working-box)"
                ) from error
            size = max(1, size // 2)
            continue
        yield result
        start = stop
