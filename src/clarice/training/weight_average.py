"""The running average of a network's weights, which is what is judged and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """`model` is a copy of the network with averaged weights, in evaluation mode, beside the one that learns."""

    def __init__(self, network: nn.Module) -> None:
        self.model = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, share: float) -> None:
        """Moves the average towards the weights of `network` by `share`; running statistics are taken over."""
        averaged: list[Tensor] = list(self.model.parameters())
        learning: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averaged, learning, share)
        for kept, new in zip(self.model.buffers(), network.buffers(), strict=True):
            kept.copy_(new)
