"""A U-Net (Ronneberger et al. 2015) as single-image denoiser: four levels, skip connections between equal sizes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clarice.denoise.estimate import Estimate
from clarice.denoise.filtered_input import filtered_channels

_GROUPS = 8


@dataclass(frozen=True)
class UNetSize:
    """Channels of the finest level; every coarser one has twice as many."""

    channels: int = 32
    levels: int = 4

    def insist_on_edge(self, box: int) -> None:
        """Raises ValueError for images that do not halve down to the coarsest level."""
        multiple = 2 ** (self.levels - 1)
        if box % multiple:
            raise ValueError(f"box {box} must be a multiple of {multiple} for {self.levels} levels")


class _TwoConvolutions(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        layers: list[nn.Module] = []
        for inward in (channels_in, channels_out):
            layers += [nn.Conv2d(inward, channels_out, 3, padding=1), nn.GroupNorm(_GROUPS, channels_out), nn.SiLU()]
        super().__init__(*layers)


class UNetBody(nn.Module):
    """Maps images of `channels_in` channels to one: (n, C, L, L) to (n, L, L) float32; L a multiple of 2^(levels − 1).

    Until it is trained, its output is zero.
    """

    def __init__(self, channels_in: int, size: UNetSize) -> None:
        super().__init__()
        if size.channels % _GROUPS:
            raise ValueError(f"channels {size.channels} must be a multiple of {_GROUPS}, the groups of its norm")
        widths = [size.channels * 2**level for level in range(size.levels)]
        self.down = nn.ModuleList(
            _TwoConvolutions(inward, outward) for inward, outward in zip([channels_in, *widths], widths, strict=False)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(_TwoConvolutions(2 * width, width) for width in widths[:-1])
        self.leave = nn.Conv2d(size.channels, 1, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else nn.functional.avg_pool2d(features, 2))
            kept.append(features)
        for level in reversed(range(len(self.up))):
            features = self.up[level](torch.cat([kept[level], self.enlarge[level](features)], dim=1))
        image: Tensor = self.leave(features).float()[:, 0]
        return image


class UNet(nn.Module):
    """Denoises each image of the sets (B, N, L, L) by itself; L a multiple of 2^(levels − 1)."""

    def __init__(self, size: UNetSize) -> None:
        super().__init__()
        self.size = size
        self.body = UNetBody(2, size)

    def forward(self, noisy: Tensor, transfer: Tensor | None = None) -> Estimate:
        """`noisy` (B, N, L, L), `transfer` (B, N, L, L // 2 + 1) or None."""
        shown = filtered_channels(noisy.flatten(0, 1), None if transfer is None else transfer.flatten(0, 1))
        return Estimate(self.body(shown).view(noisy.shape))
