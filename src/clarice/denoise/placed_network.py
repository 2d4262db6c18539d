"""A trained network on the best device there is, in the fastest precision that device multiplies natively."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor

from clarice.denoise.trained import TrainedNetwork, best_device
from clarice.geometry.angular import fast_autocast


class PlacedNetwork:
    """`network` of a TrainedNetwork, moved to `device`; `box`: edge of the images it takes."""

    def __init__(self, trained: TrainedNetwork) -> None:
        self.box = trained.box
        self.sees_sets = trained.kind.joint
        self.device = best_device()
        self.network = trained.network.to(self.device)
        # Workers share a GPU's memory, which must not grow with their number: one of them is at work on it at a time.
        self._turn: AbstractContextManager[object] = nullcontext() if self.device.type == "cpu" else threading.RLock()

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Networks run inside it."""
        with self._turn, fast_autocast(self.device):
            yield

    def placed(self, images: Tensor, transfer: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Images and their W H, on the network's device."""
        return images.to(self.device), self.optional(transfer)

    def optional(self, tensor: Tensor | None) -> Tensor | None:
        """A tensor, if there is one, on the network's device."""
        return None if tensor is None else tensor.to(self.device)
