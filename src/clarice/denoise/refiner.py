"""The refiner: a light U-Net that goes over what a few steps of sampling gave (Zhang et al., arXiv 2401.01097).

It sees the mean of a particle's samples and all that they were conditional on, and corrects what too few steps and too
few samples left wrong. It adds no possibility of its own: it is trained for the least squared error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clarice.denoise.diffusion_network import Condition
from clarice.denoise.unet import UNetBody, UNetSize

# The samples' residual, and beside it what a sample is conditional on.
_SHOWN = 1 + 3


@dataclass(frozen=True)
class RefinerSize:
    """Channels of the finest level, and levels; every coarser one has twice as many channels and half the edge."""

    box: int = 64
    channels: int = 24
    levels: int = 4

    def __post_init__(self) -> None:
        self.body.insist_on_edge(self.box)

    @property
    def body(self) -> UNetSize:
        return UNetSize(self.channels, self.levels)


class Refiner(nn.Module):
    """Corrects residuals, in units of the error of the estimate that they were drawn around."""

    def __init__(self, size: RefinerSize) -> None:
        super().__init__()
        self.size = size
        self.body = UNetBody(_SHOWN, size.body)
        self.told = nn.Linear(2 * (size.box // 2 + 1), _SHOWN)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(self, residual: Tensor, condition: Condition) -> Tensor:
        """The corrected residual (n, L, L) of one that was sampled, or of the mean of several."""
        shown = torch.cat([residual[:, None], condition.shown], dim=1)
        shown = shown * (1 + self.told(condition.told).float())[..., None, None]
        corrected: Tensor = residual + self.body(shown.contiguous(memory_format=torch.channels_last))
        return corrected
