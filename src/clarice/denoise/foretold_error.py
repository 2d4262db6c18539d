"""What a network foretells of its own error: the expected squared error of each image on each Fourier shell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clarice.denoise.angular_weights import AngularWeights


class ForetoldError(nn.Module):
    """Logarithm of the expected squared error by shell (…, S), from what is told of an image (…, F): see `told`.

    `centre` and `spread` (F,) bring what is told to mean 0 and variance 1; calibration sets them.
    """

    def __init__(self, channels: int, blocks: int, heads: int, shells: int) -> None:
        super().__init__()
        count = 2 * channels + 2 * blocks * heads
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.first = nn.Linear(count, channels)
        self.last = nn.Linear(channels, shells)

    def forward(self, told: Tensor) -> Tensor:
        standard = (told - self.centre) / self.spread
        foretold: Tensor = self.last(nn.functional.gelu(self.first(standard))).float()
        return foretold


def told(features: Tensor, attended: Sequence[AngularWeights]) -> Tensor:
    """What an error is foretold by, (B, n, F): features' mean and power over the angle, and how attention went.

    None of it changes when images are turned. For each block and head, `AngularWeights.evidence` tells how much weight
    an image gave to others, and to how many: over so many its noise was averaged.
    """
    wide = features.float()
    pooled = [wide.mean(dim=2), (wide.square().mean(dim=2) + 1e-6).log()]
    return torch.cat([*pooled, *(weights.evidence.transpose(1, 2).flatten(2) for weights in attended)], dim=-1)
