"""How far two half maps agree around each voxel.

The Fourier shell correlation of what a window shows (Cardone, Heymann and Steven 2013, J. Struct. Biol. 184:226) at
every voxel at once: both maps are cut to one band of frequencies after the other, then correlated under a Gaussian
window that a convolution moves,

    C_k(x) = G ∗ (a_k b_k) / √( G ∗ a_k² · G ∗ b_k² ).

A window of w pixels tells frequencies apart to 1 / w, so bands are as wide as that.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarice.metrics.shells import as_array

FloatArray = NDArray[np.float64]

# Cardone et al.: in so small a window chance alone reaches 0.143.
LOCAL_THRESHOLD = 0.5
# A window holds so many of the finest waves along its width, and no fewer pixels than this.
WAVES_IN_WINDOW, LEAST_WINDOW_PX = 6.0, 10.0


def window_for(resolution_px: float, box: int) -> float:
    """The window's width in pixels for half maps that agree to `resolution_px` as a whole."""
    return min(max(LEAST_WINDOW_PX, WAVES_IN_WINDOW * resolution_px), box / 2)


def local_resolution(
    half1: ArrayLike, half2: ArrayLike, pixel_size_angstrom: float, window_px: float, threshold: float = LOCAL_THRESHOLD
) -> NDArray[np.float32]:
    """The resolution in Å around each voxel of half maps (L, L, L), where C_k first falls below `threshold`.

    The window's width at half its height is `window_px`. Two pixels where C_k never falls, the window's width where it
    is below from the first band on. Raises ValueError for maps of different shapes and for windows beyond the box.
    """
    maps = as_array(half1), as_array(half2)
    if maps[0].shape != maps[1].shape:
        raise ValueError(f"half maps of shapes {maps[0].shape} and {maps[1].shape} cannot be compared")
    box = maps[0].shape[-1]
    if not 2 <= window_px <= box:
        raise ValueError(f"a window of {window_px:g} px does not fit a box of {box} px")
    spectra = [np.fft.rfftn(values) for values in maps]
    full, half = np.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1)
    radius = np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2)
    sigma = window_px / (2 * math.sqrt(2 * math.log(2)))
    window = np.exp(-2 * (np.pi * sigma * radius / box) ** 2)
    width = box / window_px
    first = math.ceil(width)
    last = box // 2
    crossing = np.full(maps[0].shape, float(last))
    before = np.ones(maps[0].shape)
    open_yet = np.ones(maps[0].shape, dtype=bool)
    for shell in range(first, last + 1):
        band = _raised_cosine(radius - shell, width)
        agreement = _agreement(_inverse(spectra[0] * band), _inverse(spectra[1] * band), window)
        falls = open_yet & (agreement < threshold)
        above = before[falls] - threshold
        crossing[falls] = shell - 1 + above / (above + threshold - agreement[falls])
        open_yet &= ~falls
        before = agreement
    crossing = np.maximum(crossing, width)
    return np.asarray(box * pixel_size_angstrom / crossing, dtype=np.float32)


def _agreement(a: FloatArray, b: FloatArray, window: FloatArray) -> FloatArray:
    """Correlation of two maps (L, L, L) under the window around each voxel; 0 where either is empty."""
    cross, power_a, power_b = (_inverse(np.fft.rfftn(product) * window) for product in (a * b, a * a, b * b))
    norm = np.sqrt(np.maximum(power_a, 0) * np.maximum(power_b, 0))
    # Weaker than this is what rounding leaves of an empty place.
    told = norm > 1e-9 * max(float(norm.max()), np.finfo(np.float64).tiny)
    return np.divide(cross, norm, out=np.zeros_like(norm), where=told)


def _inverse(spectrum: NDArray[np.complex128]) -> FloatArray:
    box = spectrum.shape[0]
    values: FloatArray = np.fft.irfftn(spectrum, s=(box, box, box), axes=(0, 1, 2))
    return values


def _raised_cosine(distance: FloatArray, width: float) -> FloatArray:
    """1 at the band's middle, a half at `width` / 2 from it, 0 from `width` on."""
    return np.where(np.abs(distance) < width, 0.5 + 0.5 * np.cos(np.pi * distance / width), 0.0)
