"""Reference projections on a grid of views, and the map they sum up to."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.abinitio.reconstruct import SliceSums
from clarice.core.parallel import ordered_map
from clarice.core.particles import FloatArray
from clarice.geometry import so3
from clarice.geometry.expectation import Expectation
from clarice.geometry.nufft import fourier_at
from clarice.geometry.polar import FourierRings, from_hartley, hartley
from clarice.geometry.slices import slice_frequencies

# A view seen from behind is its mirror image, y → −y, which is a half turn about x in the view's frame.
BEHIND = np.diag([1.0, -1.0, -1.0])
ONE_COPY = np.eye(3)[None]
# No symmetry axis: of a view's copies, the one nearest to it stands for all.
REPRESENTATIVE_AXIS = np.array([0.2236, 0.3708, 0.9014])


def samples_at_once(box: int) -> int:
    """Samples of views that are taken from a map of edge `box`, or inserted into one, together.

    Each time its grid is transformed anew, so they grow with it.
    """
    return max(2**20, box**3)


def in_asymmetric_unit(
    directions: FloatArray, symmetry: FloatArray, *, mirrored: bool, margin: float = 0.0
) -> NDArray[np.bool_]:
    """Whether each direction (n, 3) stands for its copies under the point group (g, 3, 3), (n,).

    With `mirrored`, opposite directions are copies as well. Directions within `margin` (radians) of the unit's edge
    are kept too, so that no view near it is further than a grid step from a kept one.
    """
    copies = symmetry @ REPRESENTATIVE_AXIS
    copies = np.concatenate([copies, -copies]) if mirrored else copies
    apart = copies - REPRESENTATIVE_AXIS
    distance = np.linalg.norm(apart, axis=1)
    others = distance > 1e-9  # all but the representative itself, which lies on no axis
    # The unit's edges are great circles halfway to a copy: this is the sine of the angle beyond each.
    beyond = directions @ (apart[others] / distance[others, None]).T
    return np.asarray((beyond <= np.sin(margin) + 1e-12).all(axis=1))


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
    def spread(
        cls,
        spacing_deg: float,
        rings: FourierRings,
        volume_box: int,
        turn: FloatArray,
        symmetry: FloatArray = ONE_COPY,
        *,
        mirrored: bool = False,
    ) -> ViewGrid:
        """Views about `spacing_deg` apart, turned by `turn` (3, 3), over one asymmetric unit of the point group.

        With `mirrored`, views and their mirror images together cover it, so half of the directions are enough.
        """
        views = so3.view_rotations(so3.sphere_grid_spaced(spacing_deg)) @ turn
        margin = 0.5 * np.deg2rad(spacing_deg) if len(symmetry) > 1 else 0.0
        inside = in_asymmetric_unit(so3.view_directions(views), symmetry, mirrored=mirrored, margin=margin)
        return cls(views[inside], rings, volume_box)

    def __len__(self) -> int:
        return len(self.rotations)

    def frequencies(self) -> Tensor:
        """Molecule-frame sample points (J · R · T // 2, 3), cycles per voxel of the map."""
        points = self.rings.frequencies() * (self.rings.box / self.volume_box)
        return slice_frequencies(self.rotations, points[:, 0], points[:, 1]).reshape(-1, 3)

    def blocks(self) -> Iterator[tuple[slice, ViewGrid]]:
        """The grid a few views at a time, so that the sample points of fine grids are never all in memory."""
        step = max(1, samples_at_once(self.volume_box) // (self.rings.count * self.rings.n_angles // 2))
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            yield part, replace(self, rotations=self.rotations[part])

    def references(self, volume: Tensor) -> Tensor:
        """Hartley rings (J, R, T) of the map's projections."""
        result = torch.empty((len(self), self.rings.count, self.rings.n_angles))
        for part, block in self.blocks():
            values = fourier_at(volume, block.frequencies())
            result[part] = hartley(values.view(len(block), self.rings.count, -1))
        return result

    def sums(self, numerator: Tensor, denominator: Tensor, symmetry: FloatArray) -> SliceSums:
        """What the view averages of an expectation step say about the map, under every rotation of the point group."""
        weights = self.rings.area_weights()[:, None]
        half = self.rings.n_angles // 2

        def of_block(item: tuple[slice, ViewGrid]) -> SliceSums:
            part, block = item
            points = block.frequencies()
            values = (from_hartley(numerator[part]) * weights).reshape(-1)
            densities = (denominator[part][..., None] * weights).expand(-1, -1, half).reshape(-1)
            turns = (torch.as_tensor(g, dtype=points.dtype) for g in symmetry)
            copies = (SliceSums.of(points @ turn, values, densities, self.volume_box) for turn in turns)
            return reduce(operator.add, copies)

        return reduce(operator.add, ordered_map(of_block, self.blocks()))

    def poses(self, result: Expectation) -> FloatArray:
        """Most probable rotation (n, 3, 3) of each image."""
        views = self.rotations[result.reference.numpy()]
        views = np.where(result.mirrored.numpy()[:, None, None], BEHIND @ views, views)
        return np.asarray(so3.in_plane(np.rad2deg(result.angle_rad.double().numpy())) @ views)
