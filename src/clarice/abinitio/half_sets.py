"""Which half set each particle belongs to."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

HalfSets = NDArray[np.int8]


def assign_half_sets(
    count: int,
    seed: int,
    known: HalfSets | None = None,
    micrograph: NDArray[np.str_] | None = None,
) -> HalfSets:
    """Half set 1 or 2 of each particle: as known, else whole micrographs to either half, else at random.

    Micrographs go, largest first, to the half with fewer particles, so that halves are of nearly one size.
    """
    if known is not None and np.isin(known, (1, 2)).all() and len(np.unique(known)) == 2:
        return known.astype(np.int8)
    generator = torch.Generator().manual_seed(seed)
    if micrograph is not None and len(np.unique(micrograph)) >= 2:
        _, index, sizes = np.unique(micrograph, return_inverse=True, return_counts=True)
        shuffled = torch.randperm(len(sizes), generator=generator).numpy()
        half_of = np.zeros(len(sizes), dtype=np.int8)
        filled = [0, 0]
        for name in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            smaller = int(filled[1] < filled[0])
            half_of[name] = smaller + 1
            filled[smaller] += int(sizes[name])
        return half_of[index]
    halves = np.ones(count, dtype=np.int8)
    halves[torch.randperm(count, generator=generator).numpy()[: count // 2]] = 2
    return halves
