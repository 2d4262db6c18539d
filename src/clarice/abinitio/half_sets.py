"""Which half set each particle belongs to."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.core.particles import ParticleSet

logger = logging.getLogger(__name__)

HalfSets = NDArray[np.int8]
# Of the particles: where one half would hold more, the other is too small to judge it by.
LARGEST_SHARE = 0.6


def all_half_sets(particles: ParticleSet, seed: int) -> HalfSets:
    """The half set of every row of the stack, selected or not, so that all steps tell the same."""
    return assign_half_sets(len(particles), seed, particles.half_set, particles.micrograph)


def names_half_sets(particles: ParticleSet) -> bool:
    """Whether the table says of every particle which half set it belongs to, and both have some."""
    half_set = particles.half_set
    return half_set is not None and set(np.unique(half_set).tolist()) == {1, 2}


def assign_half_sets(
    count: int,
    seed: int,
    known: HalfSets | None = None,
    micrograph: NDArray[np.str_] | None = None,
) -> HalfSets:
    """Half set 1 or 2 of each particle: known ones are kept, the rest goes by micrograph, else at random.

    `known` holds 1, 2, or 0 where nothing is known; it is drawn anew where it would leave one half empty. A
    micrograph's particles follow those of it that are known; micrographs go, largest first, to the smaller half. Where
    one half would then hold more than LARGEST_SHARE, as with few micrographs of unequal size, particles go one by one.
    """
    halves = np.zeros(count, dtype=np.int8) if known is None else np.where(np.isin(known, (1, 2)), known, 0)
    if not ((halves == 1).any() and (halves == 2).any()):
        halves = np.zeros(count, dtype=np.int8)
    halves = halves.astype(np.int8)
    if micrograph is not None and len(np.unique(micrograph)) >= 2:
        _, group = np.unique(micrograph, return_inverse=True)
        whole = _filled(halves, group, seed)
        larger = np.bincount(whole).max() / count
        if larger <= LARGEST_SHARE:
            return whole
        logger.info("half sets are drawn by particle: by micrograph, one would hold %.0f %% of them", 100 * larger)
    return _filled(halves, np.arange(count), seed)


def _filled(halves: HalfSets, group: NDArray[np.intp], seed: int) -> HalfSets:
    """Gives each unknown particle the half of its group, or the group as a whole to the smaller half."""
    halves, generator = halves.copy(), torch.Generator().manual_seed(seed)
    sizes = np.bincount(group, weights=halves == 0).astype(np.int64)
    known = [np.bincount(group, weights=halves == half, minlength=len(sizes)) for half in (1, 2)]
    half_of = np.where(known[0] >= known[1], 1, 2).astype(np.int8)
    settled = known[0] + known[1] > 0
    filled = [int((halves == half).sum() + sizes[settled & (half_of == half)].sum()) for half in (1, 2)]
    shuffled = torch.randperm(len(sizes), generator=generator).numpy()
    for name in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        if not settled[name]:
            half_of[name] = 1 + int(filled[1] < filled[0])
            filled[half_of[name] - 1] += int(sizes[name])
    unknown = halves == 0
    halves[unknown] = half_of[group[unknown]]
    return halves
