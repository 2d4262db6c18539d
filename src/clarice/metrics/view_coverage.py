"""How evenly the directions that particles look from fill the sphere, and their slices Fourier space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from clarice.geometry.so3 import sphere_grid, symmetry_rotations

FloatArray = NDArray[np.float64]

CELLS = 1500
SMOOTHING_DEG = 7.0
FOURIER_DIRECTIONS = 400
# A direction counts as seen by every view within this angle of being perpendicular to it.
SLICE_HALF_WIDTH_DEG = 3.0
# Below this share of the mean, a Fourier direction is so thinly sampled that the map is drawn out along it.
THIN_SAMPLING = 0.3
# Views that see less than this share of what as many from everywhere would see are preferred ones.
PREFERRED = 0.6


@dataclass(frozen=True)
class Coverage:
    """Share of all directions seen, and sampling of the least-sampled Fourier direction over the mean."""

    seen_share: float
    least_sampled: float

    def is_preferred(self, views: int) -> bool:
        """Whether so many views see much less of the sphere than as many from everywhere would."""
        return self.seen_share < PREFERRED * share_from_everywhere(views)


def share_from_everywhere(views: int) -> float:
    """The share of all directions that `views` drawn evenly from the sphere see, opposite views counted as one."""
    # Each sees two caps of SMOOTHING_DEG, which are 1 − cos of it of the sphere.
    return 1 - math.cos(math.radians(SMOOTHING_DEG)) ** views


def view_directions(rot_deg: FloatArray, tilt_deg: FloatArray) -> FloatArray:
    """Beam directions in the molecule's frame, (n, 3), of RELION's rot and tilt (n,)."""
    rot, tilt = np.deg2rad(rot_deg), np.deg2rad(tilt_deg)
    return np.stack([np.cos(rot) * np.sin(tilt), np.sin(rot) * np.sin(tilt), np.cos(tilt)], axis=-1)


def with_copies(directions: FloatArray, symmetry: str) -> FloatArray:
    """Views (n, 3) with their copies under the point group, (g · n, 3): a symmetric particle shows them all at once."""
    return np.concatenate([directions @ rotation for rotation in symmetry_rotations(symmetry)])


def coverage(directions: FloatArray) -> Coverage:
    """Coverage by views (n, 3); opposite views count as one: they carry the same slice of Fourier space."""
    cells = sphere_grid(CELLS)
    both = np.concatenate([directions, -directions])
    seen = np.asarray(cKDTree(both).query(cells)[0]) <= 2 * math.sin(math.radians(SMOOTHING_DEG) / 2)
    reach = math.sin(math.radians(SLICE_HALF_WIDTH_DEG))
    probes = sphere_grid(2 * FOURIER_DIRECTIONS)[:FOURIER_DIRECTIONS]
    touched = np.array([np.count_nonzero(np.abs(directions @ probe) <= reach) for probe in probes])
    return Coverage(float(seen.mean()), float(touched.min() / max(touched.mean(), 1e-9)))
