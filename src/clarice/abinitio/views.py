"""Reference projections on a grid of views, and the map they sum up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.reconstruct import SliceSums
from clarice.core.particles import FloatArray
from clarice.geometry import so3
from clarice.geometry.expectation import Expectation
from clarice.geometry.nufft import fourier_at
from clarice.geometry.polar import FourierRings, from_hartley, hartley
from clarice.geometry.slices import slice_frequencies

# A view seen from behind is its mirror image, y → −y, which is a half turn about x in the view's frame.
BEHIND = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class ViewGrid:
    """J views (J, 3, 3), each with its in-plane angle at zero, whose Fourier rings serve as references.

    `volume_box` is the edge of the maps they slice: ring radii are cycles per field of view, so a Fourier-cropped
    map gives the same references.
    """

    rotations: FloatArray
    rings: FourierRings
    volume_box: int

    @classmethod
    def hemisphere(cls, spacing_deg: float, rings: FourierRings, volume_box: int, turn: FloatArray) -> ViewGrid:
        """Views about `spacing_deg` apart on half the sphere, turned by `turn` (3, 3); mirrors give the other half."""
        views = so3.view_rotations(so3.sphere_grid_spaced(spacing_deg)) @ turn
        return cls(views[so3.view_directions(views)[:, 2] >= 0], rings, volume_box)

    @classmethod
    def sphere(cls, spacing_deg: float, rings: FourierRings, volume_box: int, turn: FloatArray) -> ViewGrid:
        """Views about `spacing_deg` apart on the whole sphere, turned by `turn` (3, 3)."""
        return cls(so3.view_rotations(so3.sphere_grid_spaced(spacing_deg)) @ turn, rings, volume_box)

    def __len__(self) -> int:
        return len(self.rotations)

    def frequencies(self) -> Tensor:
        """Molecule-frame sample points (J · R · T // 2, 3), cycles per voxel of the map."""
        points = self.rings.frequencies() * (self.rings.box / self.volume_box)
        return slice_frequencies(self.rotations, points[:, 0], points[:, 1]).reshape(-1, 3)

    def references(self, volume: Tensor) -> Tensor:
        """Hartley rings (J, R, T) of the map's projections."""
        values = fourier_at(volume, self.frequencies())
        return hartley(values.view(len(self), self.rings.count, -1))

    def sums(self, numerator: Tensor, denominator: Tensor, symmetry: FloatArray) -> SliceSums:
        """What the view averages of an expectation step say about the map, under every rotation of the point group."""
        weights = self.rings.area_weights()[:, None]
        values = (from_hartley(numerator) * weights).reshape(-1)
        densities = (denominator[..., None] * weights).expand(-1, -1, self.rings.n_angles // 2).reshape(-1)
        points = self.frequencies()
        copies = [points @ torch.as_tensor(g, dtype=points.dtype) for g in symmetry]
        count = len(copies)
        return SliceSums.of(torch.cat(copies), values.repeat(count), densities.repeat(count), self.volume_box)

    def poses(self, result: Expectation) -> FloatArray:
        """Most probable rotation (n, 3, 3) of each image."""
        views = self.rotations[result.reference.numpy()]
        views = np.where(result.mirrored.numpy()[:, None, None], BEHIND @ views, views)
        return np.asarray(so3.in_plane(np.rad2deg(result.angle_rad.double().numpy())) @ views)
