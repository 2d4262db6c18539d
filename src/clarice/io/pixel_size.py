"""When pixel sizes that a table states count as one size."""

from __future__ import annotations

import numpy as np

from clarice.core.particles import FloatArray

# Groups calibrated to sizes this close are one size for images; further apart they are different magnifications.
TOLERANCE = 1e-3


def is_one_size(sizes: FloatArray) -> bool:
    """Whether all of `sizes` (n,) count as the same."""
    return bool(sizes.max() - sizes.min() <= TOLERANCE * sizes.min())


def implied_size(angstrom: FloatArray, px: FloatArray) -> float | None:
    """The size of the pixels in which places `px` (n, 2) lie at `angstrom` (n, 2); None where no place tells."""
    telling = np.isfinite(angstrom) & np.isfinite(px) & (px != 0)
    return float(np.median(angstrom[telling] / px[telling])) if telling.any() else None


def is_stated(sizes: FloatArray, size: float) -> bool:
    """Whether a table with these `sizes` says already that images have `size`: one row does, and all count as one."""
    return len(sizes) > 0 and is_one_size(sizes) and bool(np.isclose(sizes, size, rtol=1e-5, atol=0).any())
