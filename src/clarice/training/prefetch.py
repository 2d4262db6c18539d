"""The next batches, made in a background thread while a step runs; which ones depends on the position alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

AHEAD = 2


class Prefetcher:
    """`take(position)` is `make(position)`, begun ahead of time for the positions that follow, below `end`.

    On a GPU the work runs on a stream of its own, and is finished before it is handed out.
    """

    def __init__(self, make: Callable[[int], Any], device: torch.device, end: int | None = None) -> None:
        self._make = make
        self._device = device
        self._end = end
        self._stream = _stream(device)
        self._waiting: dict[int, Future[Any]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=self._prepare)

    def _prepare(self) -> None:
        # The step has the processors; operations of this thread run by themselves.
        torch.set_num_threads(1)

    def take(self, position: int) -> Any:
        """The batch of `position`; what was made for others than the next positions is dropped."""
        ahead = range(position, position + 1 + AHEAD)
        wanted = [number for number in ahead if self._end is None or number < self._end or number == position]
        for number in set(self._waiting) - set(wanted):
            self._waiting.pop(number).cancel()
        for number in wanted:
            if number not in self._waiting:
                self._waiting[number] = self._thread.submit(self._made, number)
        batch = self._waiting.pop(position).result()
        if self._stream is not None:
            # The step's stream may still read a tensor when Python lets go of it.
            for tensor in tensors_in(batch):
                tensor.record_stream(torch.cuda.current_stream(self._device))
        return batch

    def _made(self, position: int) -> Any:
        if self._stream is None:
            return self._make(position)
        with torch.cuda.stream(self._stream):
            batch = self._make(position)
            self._stream.synchronize()
        return batch

    def close(self) -> None:
        """Waits for the batch that is being made; the others are not begun."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch made of dataclasses, sequences and mappings."""
    if isinstance(batch, Tensor):
        yield batch
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        for field in dataclasses.fields(batch):
            yield from tensors_in(getattr(batch, field.name))
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_in(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from tensors_in(value)
