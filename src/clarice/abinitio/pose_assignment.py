"""Particles laid on finished maps, searched for over all views: their poses, and the maps that they then make."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.grey_scale import compared_radius
from clarice.abinitio.half_sets import HalfSets
from clarice.abinitio.pose_search import PoseSearch
from clarice.abinitio.reconstruct import SliceSums, open_halves
from clarice.abinitio.refinement import FINEST_SPACING_DEG, GLOBAL_SPACING_DEG, Settings, view_spacing_deg
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
    return _laid(particles, volume, _everywhere(particles, settings))


def lay_closely(particles: RingSource, volume: Tensor, settings: Settings, radius_px: float) -> Laid:
    """Particles on a finished map (L, L, L) as closely as refinement's last iteration would lay them on it.

    First over all views, which are far apart, to rings that need no closer ones; then, twice, around the last view and
    shift of each, up to `radius_px`. Where those rings need no closer views either, that is left out.
    """
    first = min(radius_px, compared_radius(particles.box, settings.diameter_px))
    laid = lay_on(particles, volume, replace(settings, start_radius_px=first))
    for radius in (math.sqrt(first * radius_px), radius_px):
        search = _around(particles, settings, radius, laid.poses)
        if search.spacing_deg < GLOBAL_SPACING_DEG:
            laid = _laid(particles, volume, search)
    return laid


def _laid(particles: RingSource, volume: Tensor, search: PoseSearch) -> Laid:
    """Each particle in the most probable of the poses that are looked at."""
    count = len(particles)
    grid = search.grid(particles.box)
    rotations, shifts = search.rotations.copy(), np.zeros((count, 2))
    confidence, evidence = np.zeros(count), np.zeros(count)
    parts = search.parts(particles, grid, grid.references(volume), np.arange(count), averaging=False)
    for rows, views, result in parts:
        rotations[rows] = replace(grid, rotations=grid.rotations[views]).poses(result)
        shifts[rows] = result.shift_px.double().numpy()
        confidence[rows] = result.confidence.double().numpy()
        evidence[rows] = result.log_evidence.double().numpy() - math.log(len(views) * (1 if search.is_local else 2))
    return Laid(Poses(rotations, shifts), confidence, evidence)


@dataclass(frozen=True)
class LaidHalves:
    """Half maps (2, b, b, b) of particles laid on maps of edge b, and their `log_evidence` (n,) against pure noise."""

    halves: Tensor
    log_evidence: FloatArray


def lay_halves_on(particles: RingSource, volumes: Tensor, half_set: HalfSets, settings: Settings) -> LaidHalves:
    """Rows of half set 1 laid on the first of two `volumes` (2, b, b, b), those of 2 on the second, and averaged there.

    The maps have the particles' field of view, in a box that may be smaller, and are made from posteriors over all
    views up to `settings.start_radius_px`: what one first iteration of refinement would make.
    """
    search, box = _everywhere(particles, settings), volumes.shape[-1]
    grid, evidence = search.grid(box), np.zeros(len(particles))
    sums: list[SliceSums] = []
    for half, volume in enumerate(volumes, start=1):
        numerator, denominator = search.empty()
        mine = np.flatnonzero(half_set == half)
        for rows, _, result in search.parts(particles, grid, grid.references(volume), mine):
            numerator += result.numerator
            denominator += result.denominator
            evidence[rows] = result.log_evidence.double().numpy() - math.log(2 * len(grid))
        sums.append(grid.sums(numerator, denominator, search.symmetry))
    seen = torch.arange(box // 2 + 1) <= int(search.rings.radii[-1]) + 1
    return LaidHalves(open_halves(sums, seen), evidence)


def _around(particles: RingSource, settings: Settings, radius_px: float, last: Poses) -> PoseSearch:
    """A search of every particle around its last pose, up to `radius_px`."""
    box = particles.box
    rings = FourierRings.matching(box, min(radius_px, box / 2 - 1), settings.diameter_px)
    spacing = view_spacing_deg(rings, settings.diameter_px, FINEST_SPACING_DEG)
    symmetry, seed = so3.symmetry_rotations(settings.symmetry), settings.seed + 1
    return PoseSearch(rings, spacing, True, seed, last.rotations, last.shifts_px, settings.max_shift_px, symmetry)


def _everywhere(particles: RingSource, settings: Settings) -> PoseSearch:
    """A search of every particle over all views and shifts."""
    count, box = len(particles), particles.box
    rings = FourierRings.matching(box, min(settings.start_radius_px, box / 2 - 1), settings.diameter_px)
    anywhere = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    symmetry = so3.symmetry_rotations(settings.symmetry)
    return PoseSearch(rings, GLOBAL_SPACING_DEG, False, settings.seed, anywhere, None, settings.max_shift_px, symmetry)
