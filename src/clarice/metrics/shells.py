"""Fourier ring and shell correlation, and the resolution they state.

Shell k of a box of L pixels lies at k / (L · pixel size) per Å; curves have L // 2 + 1 entries, from shell
0 on. A Fourier element belongs to the shell its rounded radius names.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Rosenthal & Henderson 2003: where independent half maps still tell of the structure.
HALF_MAP_THRESHOLD = 0.143
# Shells before this hold so few elements that a dip among them says nothing.
FIRST_TELLING_SHELL = 3
CHUNK_ELEMENTS = 1 << 24


def half_shells(box: int, ndim: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Shell and multiplicity of every element of a real transform (`rfftn` layout) of a (box,)*ndim grid."""
    full = np.fft.fftfreq(box, 1 / box)
    half = np.arange(box // 2 + 1, dtype=np.float64)
    squares = half**2
    for _ in range(ndim - 1):
        squares = full.reshape(-1, *(1,) * squares.ndim) ** 2 + squares
    # Elements with 0 < kx < L/2 stand for themselves and their Hermitian partner.
    multiplicity = np.full(len(half), 2.0)
    multiplicity[0] = 1
    if box % 2 == 0:
        multiplicity[-1] = 1
    return np.rint(np.sqrt(squares)).astype(np.int64), np.broadcast_to(multiplicity, squares.shape)


def as_array(values: ArrayLike | torch.Tensor) -> FloatArray:
    """Values as a float64 array, whether they come as an array or as a tensor on any device."""
    return np.asarray(values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values, dtype=np.float64)


def as_grids(values: ArrayLike, ndim: int, name: str) -> FloatArray:
    """Values as float64 grids (…, L, …, L) of `ndim` axes. Raises ValueError, with their `name`, for another shape."""
    array = as_array(values)
    if array.ndim < ndim or len(set(array.shape[-ndim:])) != 1:
        raise ValueError(f"{name} must have {ndim} equal trailing axes, not the shape {array.shape}")
    return array


def _shell_correlation(a: FloatArray, b: FloatArray, ndim: int) -> FloatArray:
    """Correlation of (n, L, ..) grids by shell, (n, L // 2 + 1); 0 where a shell holds no power."""
    box = a.shape[-1]
    shells, multiplicity = half_shells(box, ndim)
    inside = shells <= box // 2
    index, weight = shells[inside], multiplicity[inside]
    axes = tuple(range(-ndim, 0))
    curves: FloatArray = np.empty((len(a), box // 2 + 1))
    step = max(1, CHUNK_ELEMENTS // box**ndim)
    for start in range(0, len(a), step):
        spectra_a = np.fft.rfftn(a[start : start + step], axes=axes)[:, inside]
        spectra_b = np.fft.rfftn(b[start : start + step], axes=axes)[:, inside]
        for row, (fa, fb) in enumerate(zip(spectra_a, spectra_b, strict=True), start):
            terms = ((fa * fb.conj()).real, np.abs(fa) ** 2, np.abs(fb) ** 2)
            cross, power_a, power_b = (np.bincount(index, weight * term, box // 2 + 1).astype(float) for term in terms)
            curves[row] = correlation_of(cross, power_a, power_b)
    return curves


def correlation_of(cross: FloatArray, power_a: FloatArray, power_b: FloatArray) -> FloatArray:
    """Correlation from sums of Re(a b̄), |a|² and |b|², of one shape; 0 where either has no power."""
    norm = np.sqrt(power_a * power_b)
    curve: FloatArray = np.divide(cross, norm, out=np.zeros_like(norm), where=norm > 0)
    return curve


def shell_power(spectrum: NDArray[np.complex128]) -> FloatArray:
    """Mean of |spectrum|² by shell, corners included, of the real transform (L, L, L // 2 + 1) of a volume."""
    shells, multiplicity = half_shells(spectrum.shape[0], 3)
    total = np.bincount(shells.ravel(), (multiplicity * np.abs(spectrum) ** 2).ravel())
    mean: FloatArray = total / np.bincount(shells.ravel(), multiplicity.ravel())
    return mean


def frc(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Fourier ring correlation of images a and b, (n, L, L) or (L, L) each: (n, L // 2 + 1).

    Raises ValueError when the shapes differ or are not square.
    """
    images_a, images_b = (as_grids(x, 2, "images").reshape(-1, *np.shape(x)[-2:]) for x in (a, b))
    if images_a.shape != images_b.shape:
        raise ValueError(f"images of shapes {images_a.shape} and {images_b.shape} cannot be correlated")
    return _shell_correlation(images_a, images_b, 2)


def fsc(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> FloatArray:
    """Fourier shell correlation of volumes a and b, (L, L, L) each, under an optional mask: (L // 2 + 1,).

    Raises ValueError when the shapes differ or are not cubic.
    """
    map_a, map_b = as_grids(a, 3, "a volume"), as_grids(b, 3, "a volume")
    if map_a.shape != map_b.shape:
        raise ValueError(f"volumes of shapes {map_a.shape} and {map_b.shape} cannot be correlated")
    if mask is not None:
        weights = as_grids(mask, 3, "a mask")
        map_a, map_b = map_a * weights, map_b * weights
    curve: FloatArray = _shell_correlation(map_a[None], map_b[None], 3)[0]
    return curve


def shell_frequencies(box: int, pixel_size_angstrom: float) -> FloatArray:
    """Spatial frequency of each shell, per Å: (box // 2 + 1,)."""
    return np.arange(box // 2 + 1) / (box * pixel_size_angstrom)


def finest_angstrom(box: int, pixel_size_angstrom: float, last_shell: int | None = None) -> float:
    """The finest resolution that a curve can state, Å: that of the last shell measured, Nyquist where that is all."""
    if last_shell is None or last_shell >= box // 2:
        return 2 * pixel_size_angstrom
    return box * pixel_size_angstrom / max(last_shell, 1)


def resolution_at(
    curve: ArrayLike, threshold: float, pixel_size_angstrom: float, box: int, last_shell: int | None = None
) -> float:
    """Resolution in Å at which `curve` (box // 2 + 1,) first falls below `threshold`, interpolated.

    Where it never falls, that of `last_shell`, the last one measured, or Nyquist (two pixels) without; the box's edge
    where it is below from shell 1 on. Shell 0, the mean density, says nothing about resolution and is not looked at.
    """
    values = np.nan_to_num(np.asarray(curve, dtype=np.float64))
    if last_shell is not None:
        values = values[: last_shell + 1]
    below = np.flatnonzero(values[1:] < threshold) + 1
    if len(below) == 0:
        return finest_angstrom(box, pixel_size_angstrom, last_shell)
    shell = int(below[0])
    if shell == 1:
        return box * pixel_size_angstrom
    upper, lower = values[shell - 1], values[shell]
    crossing = shell - 1 + (upper - threshold) / (upper - lower)
    return float(box * pixel_size_angstrom / crossing)
