"""A trained network at work on several devices at once: batches are made on one while another may be validating."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


class NetworkCopies(Generic[N]):
    """`on(device)` is `network` there; it is never moved, because another thread may be using it where it is."""

    def __init__(self, network: N) -> None:
        self.network = network
        self._copies: dict[torch.device, N] = {}

    def on(self, device: torch.device) -> N:
        """The copy on `device`, made when first asked for."""
        if device not in self._copies:
            self._copies[device] = copy.deepcopy(self.network).to(device)
        return self._copies[device]
