"""What an image carries behind the CTF beside random noise: uneven thickness, streaks and hot pixels.

In units of the random noise's standard deviation.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Rows and columns of an image that are off, on average, and by how much at strength 1.
STREAKS, STREAK_DEVIATION = 1.5, 1.0
# By how much a pixel is hot, on average.
HOT_PIXEL_MEAN = 12.0


def thickness_gradient(count: int, box: int, generator: torch.Generator) -> Tensor:
    """Ice that is thicker to one side, (count, box, box): slopes and curvatures of a random surface.

    A slope takes a standard deviation of 1 from the centre to the rim; the mean over the box is 0.
    """
    axis = (torch.arange(box, dtype=torch.float32) - box // 2) / (box / 2)
    x, y = axis[None, :], axis[:, None]
    surfaces = torch.stack([x.expand(box, box), y.expand(box, box), x * y, x**2 - y**2])
    weights = torch.randn((count, 4), generator=generator) * torch.tensor([1.0, 1.0, 0.5, 0.5])
    ramp = torch.einsum("ns,syx->nyx", weights, surfaces)
    return ramp - ramp.mean(dim=(-2, -1), keepdim=True)


def streaks(count: int, box: int, generator: torch.Generator) -> Tensor:
    """Rows and columns of the detector that are off by a constant, (count, box, box)."""
    share = STREAKS / (2 * box)
    lines = torch.rand((2, count, box), generator=generator) < share
    values = torch.randn((2, count, box), generator=generator) * lines * STREAK_DEVIATION
    return values[0][:, :, None] + values[1][:, None, :]


def hot_pixels(count: int, box: int, mean: float, generator: torch.Generator) -> Tensor:
    """`mean` pixels an image that count far too much, (count, box, box)."""
    hot = torch.rand((count, box, box), generator=generator) < mean / box**2
    values = torch.empty((count, box, box)).exponential_(1 / HOT_PIXEL_MEAN, generator=generator)
    return values * hot
