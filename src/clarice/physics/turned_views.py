"""Poses of sets in which several images show the same view, each turned in the plane and shifted at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.core.particles import Poses
from clarice.geometry.so3 import in_plane, random_rotations


@dataclass(frozen=True)
class TurnedViews:
    """The view (n,) each image shows, the angle in radians (n,) it was turned by, +x towards +y, and its pose."""

    view: NDArray[np.int64]
    angle_rad: NDArray[np.float64]
    poses: Poses

    def __len__(self) -> int:
        return len(self.view)


def turned_views(count: int, views: int, max_shift_px: float, generator: torch.Generator) -> TurnedViews:
    """`count` images from `views` random views, or each from a view of its own where `views` is 0.

    Shifts are uniform within ±`max_shift_px` in x and y.
    """
    view = torch.randint(views, (count,), generator=generator).numpy() if views else np.arange(count)
    of_view = random_rotations(max(views, count), generator)
    uniform = torch.rand((count, 3), generator=generator, dtype=torch.float64).numpy()
    angle = 2 * np.pi * uniform[:, 0]
    shifts = (2 * uniform[:, 1:] - 1) * max_shift_px
    return TurnedViews(view, angle, Poses(in_plane(np.rad2deg(angle)) @ of_view[view], shifts))
