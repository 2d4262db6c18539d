"""When pixel sizes that a table states count as one size."""

from __future__ import annotations

import numpy as np

from clarice.core.particles import FloatArray

# Groups calibrated to sizes this close are one size for images; further apart they are different magnifications.
TOLERANCE = 1e-3


def is_one_size(sizes: FloatArray) -> bool:
    """Whether all of `sizes` (n,) count as the same."""
    return bool(sizes.max() - sizes.min() <= TOLERANCE * sizes.min())


def unlike_images(angstrom: FloatArray, px: FloatArray, image_size_angstrom: float) -> float | None:
    """The size of the pixels in which places `px` (n, 2) lie at `angstrom` (n, 2); None where no place tells, or where
    it is that of the images.
    """
    telling = np.isfinite(angstrom) & np.isfinite(px) & (px != 0)
    if not telling.any():
        return None
    size = float(np.median(angstrom[telling] / px[telling]))
    return None if is_one_size(np.array([size, image_size_angstrom])) else size


def is_stated(sizes: FloatArray, size: float) -> bool:
    """Whether a table with these `sizes` says already that images have `size`: one row does, and all count as one."""
    return len(sizes) > 0 and is_one_size(sizes) and bool(np.isclose(sizes, size, rtol=1e-5, atol=0).any())
