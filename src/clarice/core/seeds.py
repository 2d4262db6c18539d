"""Seeds of random generators from words: other words, other and independent seeds."""

from __future__ import annotations

import numpy as np
import torch

# Steps of the work draw from seeds made of the one that is given, in 64 bits.
LARGEST_SEED = 2**48


def seeds_of(*words: int, count: int = 1) -> list[int]:
    """`count` seeds of 63 bits that all of the whole numbers `words`, none negative, determine."""
    drawn = np.random.SeedSequence(words).generate_state(count, np.uint64) >> np.uint64(1)
    return [int(seed) for seed in drawn]


def generator_of(*words: int) -> torch.Generator:
    """A generator on the CPU that `words` determine."""
    return torch.Generator().manual_seed(seeds_of(*words)[0])
