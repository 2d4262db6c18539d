"""When pixel sizes that a table states count as one size."""

from __future__ import annotations

import numpy as np

from clarice.core.particles import FloatArray

# Groups calibrated to sizes this close are one size for images; further apart they are different magnifications.
TOLERANCE = 1e-3


def is_one_size(sizes: FloatArray) -> bool:
    """Whether all of `sizes` (n,) count as the same."""
    return bool(sizes.max() - sizes.min() <= TOLERANCE * sizes.min())


def is_stated(sizes: FloatArray, size: float) -> bool:
    """Whether a table with these `sizes` says already that images have `size`: one row does, and all count as one."""
    return len(sizes) > 0 and is_one_size(sizes) and bool(np.isclose(sizes, size, rtol=1e-5, atol=0).any())
