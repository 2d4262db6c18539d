"""A map by direct Fourier inversion of particles whose poses are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.half_sets import HalfSets
from clarice.abinitio.reconstruct import (
    SliceSums,
    fsc_prior,
    halves_agreement,
    open_halves,
    solve_map,
    spherical_support,
)
from clarice.abinitio.ring_source import RingSource, Rows
from clarice.core.particles import Poses
from clarice.core.progress import Progress, silent
from clarice.geometry.polar import FourierRings
from clarice.geometry.slices import slice_frequencies
from clarice.geometry.so3 import symmetry_rotations


@dataclass(frozen=True)
class Reconstruction:
    """`volume` (L, L, L) of all particles, `halves` (2, L, L, L), and the `fsc` (L // 2 + 1,) between them."""

    volume: Tensor
    halves: Tensor
    fsc: Tensor


def samples_at_once(box: int) -> int:
    """Samples that are inserted together into a map of edge `box`.

    Every insertion transforms the doubled grid anew, so they grow with it.
    """
    return max(2**22, 2 * box**3)


def reconstruct_from_poses(
    particles: RingSource,
    poses: Poses,
    half_set: HalfSets,
    diameter_px: float,
    symmetry: str = "C1",
    progress: Progress = silent,
) -> Reconstruction:
    """The regularised least-squares map of each half set and of both, up to Nyquist, inside a sphere.

    The prior of each shell follows from the halves' FSC. Memory grows as L³: the weights are gridded at twice the
    box, on a grid half as fine again (`pipeline.memory` foretells it).
    """
    box = particles.box
    rings = FourierRings.matching(box, box / 2 - 1, diameter_px)
    tell = _teller(progress, len(particles))
    sums = [slice_sums(particles, poses, np.flatnonzero(half_set == half), rings, symmetry, tell) for half in (1, 2)]
    support = spherical_support(box, diameter_px)
    halves = open_halves(sums, torch.ones(box // 2 + 1, dtype=torch.bool))
    fsc = halves_agreement(halves, support, seed=0)
    volume = solve_map(sums[0] + sums[1], fsc_prior(fsc, sums), support, halves.mean(dim=0), iterations=20)
    return Reconstruction(volume, halves, fsc)


def _teller(progress: Progress, total: int) -> Callable[[int], None]:
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress("inserting slices", done, total)

    return tell


def slice_sums(
    particles: RingSource,
    poses: Poses,
    rows: Rows,
    rings: FourierRings,
    symmetry: str = "C1",
    tell: Callable[[int], None] = lambda _: None,
) -> SliceSums:
    """What the particles of `rows` say about the map, each at its pose, under every rotation of the point group."""
    points, weights = rings.frequencies(), rings.area_weights()[:, None]
    group = symmetry_rotations(symmetry)
    box = particles.box
    total = SliceSums(torch.zeros((box,) * 3), torch.zeros((2 * box,) * 3))
    step = max(1, samples_at_once(box) // (len(points) * len(group)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        stack = particles.rings(rings, part)
        phases = rings.shift_phases(torch.from_numpy(poses.shifts_px[part]).float())
        values = (stack.filtered * phases * weights).reshape(-1)
        densities = (stack.power[..., None] * weights).expand_as(stack.filtered).reshape(-1)
        copies = [
            slice_frequencies(poses.rotations[part] @ rotation, points[:, 0], points[:, 1]).reshape(-1, 3)
            for rotation in group
        ]
        count = len(copies)
        total = total + SliceSums.of(torch.cat(copies), values.repeat(count), densities.repeat(count), box)
        tell(len(part))
    return total
