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
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from clarice.metrics.shells import as_array

# Cardone et al.: in so small a window chance alone reaches 0.143.
LOCAL_THRESHOLD = 0.5
# A window holds so many of the finest waves along its width, and no fewer pixels than this.
WAVES_IN_WINDOW, LEAST_WINDOW_PX = 6.0, 10.0


def window_for(resolution_px: float, box: int) -> float:
    """The window's width in pixels for half maps that agree to `resolution_px` as a whole."""
    return min(max(LEAST_WINDOW_PX, WAVES_IN_WINDOW * resolution_px), box / 2)


def local_resolution(
    half1: ArrayLike,
    half2: ArrayLike,
    pixel_size_angstrom: float,
    window_px: float,
    threshold: float = LOCAL_THRESHOLD,
    last_shell: int | None = None,
) -> NDArray[np.float32]:
    """The resolution in Å around each voxel of half maps (L, L, L), where C_k first falls below `threshold`.

    The window's width at half its height is `window_px`. Shells beyond `last_shell` were not measured: that of the last
    one, L // 2 if absent, where C_k never falls; about the window's width where it is below from the first band on.
    Raises ValueError for maps of different shapes and for windows beyond the box.
    """
    maps = torch.from_numpy(as_array(half1)).float(), torch.from_numpy(as_array(half2)).float()
    if maps[0].shape != maps[1].shape:
        raise ValueError(f"half maps of shapes {tuple(maps[0].shape)} and {tuple(maps[1].shape)} cannot be compared")
    box = maps[0].shape[-1]
    if not 2 <= window_px <= box:
        raise ValueError(f"a window of {window_px:g} px does not fit a box of {box} px")
    spectra = torch.fft.rfftn(maps[0]), torch.fft.rfftn(maps[1])
    full, half = torch.fft.fftfreq(box, 1 / box), torch.arange(box // 2 + 1)
    radius = torch.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)
    sigma = window_px / (2 * math.sqrt(2 * math.log(2)))
    window = torch.exp(-2 * (torch.pi * sigma * radius / box) ** 2)
    width, last = box / window_px, box // 2 if last_shell is None else last_shell
    crossing = torch.full_like(maps[0], last)
    before, open_yet = torch.ones_like(maps[0]), torch.ones_like(maps[0], dtype=torch.bool)
    for shell in range(math.ceil(width), last + 1):
        band = _raised_cosine(radius - shell, width)
        agreement = _agreement(_inverse(spectra[0] * band), _inverse(spectra[1] * band), window)
        falls = open_yet & (agreement < threshold)
        above = before[falls] - threshold
        crossing[falls] = shell - 1 + above / (above + threshold - agreement[falls])
        open_yet &= ~falls
        before = agreement
    return np.asarray(box * pixel_size_angstrom / crossing.clamp_min(width).numpy(), dtype=np.float32)


def _agreement(a: Tensor, b: Tensor, window: Tensor) -> Tensor:
    """Correlation of two maps (L, L, L) under the window around each voxel; 0 where either is empty."""
    cross, power_a, power_b = (_inverse(torch.fft.rfftn(product) * window) for product in (a * b, a * a, b * b))
    norm = (power_a.clamp_min(0) * power_b.clamp_min(0)).sqrt()
    # Weaker than this is what rounding leaves of an empty place.
    told = norm > 1e-6 * norm.max()
    return torch.where(told, cross / torch.where(told, norm, 1), 0)


def _inverse(spectrum: Tensor) -> Tensor:
    return torch.fft.irfftn(spectrum, s=(len(spectrum),) * 3)


def _raised_cosine(distance: Tensor, width: float) -> Tensor:
    """1 at the band's middle, a half at `width` / 2 from it, 0 from `width` on."""
    return torch.where(distance.abs() < width, 0.5 + 0.5 * torch.cos(torch.pi * distance / width), 0)
