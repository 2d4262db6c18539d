"""One process's share of each batch, in as many equal parts as memory asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from clarice.core.errors import ResourceError, UsageError
from clarice.training.learner import Learner
from clarice.training.memory import MemoryEstimate, estimate_memory
from clarice.training.processes import Processes
from clarice.training.task import Task


class Shares:
    """`of(position)` is the list of parts; `parts` says how many, and grows when they do not fit into memory."""

    def __init__(self, task: Task, processes: Processes, parts: int, recipe: Path, tell: Callable[[str], None]) -> None:
        self.task, self.processes, self.parts = task, processes, parts
        self._recipe, self._tell = recipe, tell
        # Batches are made ahead by another thread, and by this one where memory asks for smaller parts.
        self._making = threading.Lock()

    def of(self, position: int) -> list[Any]:
        """The parts of this process's share of batch number `position`."""
        return [self._part(position, part, self.parts) for part in range(self.parts)]

    def _part(self, position: int, part: int, parts: int) -> Any:
        rank, world = self.processes.rank, self.processes.world
        with self._making:
            batch = self.task.batch(position, rank + world * part, world * parts, self.processes.device)
            if self.processes.device.type == "cuda":  # threads queue work apart, and a task may keep tensors
                torch.cuda.current_stream(self.processes.device).synchronize()
            return batch

    def fit_into_memory(self, learner: Learner, position: int) -> None:
        """Says what training takes from `position` on, and splits the shares as far as that does not fit.

        Raises ResourceError.
        """
        position = self.task.largest(position)
        estimate = self._estimate(learner, position)
        self._tell(estimate.sentence(self.task.images_per_batch // (self.processes.world * self.parts)))
        if estimate.parts == 0:
            raise ResourceError(
                f"the weights and their companions take {estimate.weights_mb:,.0f} MB, and {estimate.free_mb:,.0f} MB "
                "are free: make the network smaller, or use a device with more memory"
            )
        if estimate.parts > 1:
            self.split_finer(position, estimate.parts * self.parts)

    def _estimate(self, learner: Learner, position: int) -> MemoryEstimate:
        while True:
            with suppress(torch.OutOfMemoryError):
                return estimate_memory(learner, self._part(position, 0, self.parts))
            self.split_finer(position, 2 * self.parts)

    def split_finer(self, position: int, parts: int) -> None:
        """Splits every share into `parts`. Raises ResourceError when a batch does not go into so many."""
        try:
            self._part(position, 0, parts)
        except UsageError as error:
            raise ResourceError(
                f"a batch of {self.task.images_per_batch} images does not fit into memory in {self.parts} parts and "
                f"does not go into {parts}: make the batch, its sets or the network of {self._recipe} smaller"
            ) from error
        self.parts = parts
        torch.cuda.empty_cache()
        self._tell(f"batches do not fit into memory at once: each goes in {parts} parts (training.accumulate)")
