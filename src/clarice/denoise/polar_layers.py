"""Layers on signals along the angle, (…, T, C): exactly equivariant to shifts of the angle, which turn the image."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


def _around(signals: Tensor, reach: int) -> Tensor:
    """Signals (n, T, C) with `reach` angles more at either end, from the other end."""
    return torch.cat([signals[:, -reach:], signals, signals[:, :reach]], dim=1) if reach else signals


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
        flat = _around(signals.flatten(0, -3), self.reach)
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


class PlanarConv(nn.Module):
    """Convolution over the plane of (angle, ring), as on any image: the same kernel at all rings.

    Signals (…, T, R·P) hold P planes ring by ring. `rings` tells how many of them belong to each space: a kernel does
    not reach from the last ring of one into the first of another. An angular convolution knows at which radius it
    looks and sees all radii at once; this one does neither, and is what it is compared with.
    """

    def __init__(self, rings: tuple[int, ...], channels_in: int, channels_out: int, width: int) -> None:
        super().__init__()
        if width % 2 == 0:
            raise ValueError(f"a kernel of {width} samples has no centre")
        count = sum(rings)
        if channels_in % count or channels_out % count:
            raise ValueError(f"{channels_in} to {channels_out} channels are not whole planes of {count} rings")
        self.rings, self.reach = rings, width // 2
        planes_in, planes_out = channels_in // count, channels_out // count
        self.weight = nn.Parameter(torch.empty(planes_out, planes_in * width**2))
        self.bias = nn.Parameter(torch.zeros(planes_out))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def start_at_zero(self) -> None:
        """Makes the output zero until it is trained."""
        nn.init.zeros_(self.weight)

    def forward(self, signals: Tensor) -> Tensor:
        flat = _around(signals.flatten(0, -3), self.reach)
        planes = flat.view(*flat.shape[:-1], sum(self.rings), -1).permute(0, 3, 1, 2)  # (n, P, T + 2 reach, R)
        width = 2 * self.reach + 1
        kernel = self.weight.view(len(self.weight), -1, width, width)
        spaces = torch.split(planes, list(self.rings), dim=-1)
        convolved = torch.cat(
            [nn.functional.conv2d(space, kernel, self.bias, padding=(0, self.reach)) for space in spaces], dim=-1
        )
        return convolved.permute(0, 2, 3, 1).reshape(*signals.shape[:-1], -1)


class Convolution(Protocol):
    """Makes a layer from the channels it takes, those it gives and the kernel's width."""

    def __call__(self, channels_in: int, channels_out: int, width: int) -> AngularConv | PlanarConv: ...


class ResidualConv(nn.Module):
    """Two convolutions beside an identity: the unit of the polar CNN."""

    def __init__(self, channels: int, width: int, convolution: Convolution = AngularConv) -> None:
        super().__init__()
        self.norm = ImageNorm(channels)
        self.first = convolution(channels, channels, width)
        self.second = convolution(channels, channels, width)
        self.second.start_at_zero()

    def forward(self, signals: Tensor) -> Tensor:
        inner = nn.functional.gelu(self.first(self.norm(signals)))
        passed: Tensor = signals + self.second(inner)
        return passed
