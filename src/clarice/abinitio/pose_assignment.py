"""Poses of particles on a finished map, searched for over all views."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from clarice.abinitio.pose_search import PoseSearch
from clarice.abinitio.refinement import GLOBAL_SPACING_DEG, Settings
from clarice.abinitio.ring_source import RingSource
from clarice.core.particles import FloatArray, Poses
from clarice.geometry import so3
from clarice.geometry.polar import FourierRings


@dataclass(frozen=True)
class Laid:
    """Poses of particles on a map, their `confidence` (n,), and `log_evidence` (n,) against pure noise."""

    poses: Poses
    confidence: FloatArray
    log_evidence: FloatArray


def lay_on(particles: RingSource, volume: Tensor, settings: Settings) -> Laid:
    """Particles on a finished map (L, L, L), searched for over all views up to `settings.start_radius_px`."""
    count, box = len(particles), particles.box
    rings = FourierRings.matching(box, min(settings.start_radius_px, box / 2 - 1), settings.diameter_px)
    anywhere = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    symmetry = so3.symmetry_rotations(settings.symmetry)
    search = PoseSearch(
        rings, GLOBAL_SPACING_DEG, False, settings.seed, anywhere, None, settings.max_shift_px, symmetry
    )
    grid = search.grid(box)
    rotations, shifts = anywhere.copy(), np.zeros((count, 2))
    confidence, evidence = np.zeros(count), np.zeros(count)
    parts = search.parts(particles, grid, grid.references(volume), np.arange(count), averaging=False)
    for rows, _, result in parts:
        rotations[rows] = grid.poses(result)
        shifts[rows] = result.shift_px.double().numpy()
        confidence[rows] = result.confidence.double().numpy()
        evidence[rows] = result.log_evidence.double().numpy() - math.log(2 * len(grid))
    return Laid(Poses(rotations, shifts), confidence, evidence)
