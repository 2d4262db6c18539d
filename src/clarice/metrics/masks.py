"""Soft masks in real space: a sphere, or the region a map's density fills."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt
from skimage.filters import threshold_otsu

from clarice.core.errors import InputError
from clarice.geometry.fourier import radius_grid

Float32Array = NDArray[np.float32]


def _otsu(values: NDArray[np.floating]) -> float:
    """Grey value that splits `values` into two groups of least spread (Otsu 1979)."""
    return float(threshold_otsu(values))  # type: ignore[no-untyped-call]


def _falling_cosine(distance_px: NDArray[np.floating], edge_px: float) -> Float32Array:
    """1 at distances ≤ 0, a half cosine down to 0 over `edge_px`, 0 beyond."""
    if edge_px <= 0:
        return np.asarray(distance_px <= 0, dtype=np.float32)
    along = np.clip(distance_px / edge_px, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * along), dtype=np.float32)


def soft_sphere(box: int, radius_px: float, edge_px: float, ndim: int = 3) -> Float32Array:
    """Sphere (`ndim` 3) or disk (2) about index L // 2: 1 to `radius_px`, then a cosine over `edge_px`."""
    return _falling_cosine(radius_grid(box, ndim).numpy() - radius_px, edge_px)


def low_pass(volume: ArrayLike, cutoff_px: float) -> Float32Array:
    """`volume` (L, L, L) without detail finer than `cutoff_px` pixels: half amplitude there (a Gaussian)."""
    values = np.asarray(volume, dtype=np.float32)
    box = values.shape[-1]
    full, half = np.fft.fftfreq(box), np.fft.rfftfreq(box)
    squares = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    gain = np.exp(-np.log(2) * squares * cutoff_px**2)
    return np.asarray(np.fft.irfftn(np.fft.rfftn(values) * gain, s=values.shape, axes=(0, 1, 2)), dtype=np.float32)


def mask_from_map(
    volume: ArrayLike,
    low_pass_px: float = 6.0,
    threshold: float | None = None,
    dilate_px: float = 3.0,
    edge_px: float = 5.0,
) -> Float32Array:
    """Soft mask (L, L, L) of the density of `volume`: low-passed, thresholded, dilated, then a cosine edge.

    `threshold` is a grey value of the low-passed map; Otsu's split inside the inscribed sphere by default.
    Raises InputError when nothing, or everything, lies above it.
    """
    smooth = low_pass(volume, low_pass_px)
    inside = radius_grid(smooth.shape[-1], 3).numpy() < smooth.shape[-1] / 2
    level = threshold
    if threshold is None and np.ptp(smooth[inside]) > 0:
        level = _otsu(smooth[inside])
    dense = inside & (smooth > (np.inf if level is None else level))
    if not dense.any() or dense[inside].all():
        raise InputError(
            "no mask can be made from a flat or not finite map, at this or another threshold: mend what it was made of"
            if threshold is None
            else f"no mask can be made from the map at threshold {threshold:g}: give another threshold or a mask"
        )
    outside_px = np.asarray(distance_transform_edt(~dense), dtype=np.float64)
    return _falling_cosine(outside_px - dilate_px, edge_px)


def extent_px(volume: ArrayLike) -> float:
    """Diameter in pixels of the ball with the radius of gyration of the dense part of `volume` (L, L, L)."""
    smooth = torch.as_tensor(low_pass(volume, 6.0))
    box = smooth.shape[-1]
    inside = (radius_grid(box, 3) < box / 2).numpy()
    values = np.where(inside, smooth.numpy(), 0)
    if np.ptp(values) == 0:
        return float(box)
    dense = np.clip(values - _otsu(values[inside]), 0, None) * inside
    positions = np.argwhere(dense > 0)
    weights = dense[dense > 0]
    centre = np.average(positions, axis=0, weights=weights)
    squares = np.average(((positions - centre) ** 2).sum(axis=1), weights=weights)
    # A uniform ball of radius r has a radius of gyration of r √(3/5).
    return float(min(box, 2 * np.sqrt(squares * 5 / 3)))
