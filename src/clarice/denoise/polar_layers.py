"""Layers on signals along the angle, (…, T, C): exactly equivariant to shifts of the angle, which turn the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AngularConv(nn.Module):
    """Convolution along the (periodic) angle, rings or features as channels: (…, T, C_in) to (…, T, C_out)."""

    def __init__(self, channels_in: int, channels_out: int, width: int) -> None:
        super().__init__()
        if width % 2 == 0:
            raise ValueError(f"an angular kernel of {width} samples has no centre")
        self.reach = width // 2
        # A matrix, as optimisers that act on matrices take it: (C_out, C_in · width).
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in * width))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def start_at_zero(self) -> None:
        """Makes the output zero until it is trained."""
        nn.init.zeros_(self.weight)

    def forward(self, signals: Tensor) -> Tensor:
        flat = signals.flatten(0, -3)
        if self.reach:
            flat = torch.cat([flat[:, -self.reach :], flat, flat[:, : self.reach]], dim=1)
        # Channels lie innermost: for a two-dimensional convolution of height 1 this is the fast memory format.
        kernel = self.weight.view(len(self.weight), -1, 1, 2 * self.reach + 1)
        convolved = nn.functional.conv2d(flat.transpose(1, 2).unsqueeze(2), kernel, self.bias)
        return convolved.squeeze(2).transpose(1, 2).reshape(*signals.shape[:-1], -1)


class ImageNorm(nn.Module):
    """Divides the features of each image by their root mean square over angle and channel, then gains by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, signals: Tensor) -> Tensor:
        power = signals.float().square().mean(dim=(-2, -1), keepdim=True)
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device := signals.device.type) else None
        return (signals * (power + 1e-6).rsqrt() * self.gain).to(dtype or signals.dtype)


class ResidualAngularConv(nn.Module):
    """Two angular convolutions beside an identity: the unit of the polar CNN."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = ImageNorm(channels)
        self.first = AngularConv(channels, channels, width)
        self.second = AngularConv(channels, channels, width)
        self.second.start_at_zero()

    def forward(self, signals: Tensor) -> Tensor:
        inner = nn.functional.gelu(self.first(self.norm(signals)))
        passed: Tensor = signals + self.second(inner)
        return passed
