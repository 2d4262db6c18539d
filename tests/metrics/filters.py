"""Noise, and volumes cut in Fourier space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clarice.metrics.shells import half_shells

Volume = NDArray[np.float64]


def noise(box: int, seed: int = 1, sigma: float = 1.0) -> Volume:
    return np.random.default_rng(seed).normal(0, sigma, (box, box, box))


def filtered(volume: Volume, gain: NDArray[np.floating]) -> Volume:
    """A volume (L, L, L) with its real transform multiplied by `gain`."""
    return np.fft.irfftn(np.fft.rfftn(volume) * gain, s=volume.shape, axes=(0, 1, 2))


def cut_to(volume: Volume, shell: int) -> Volume:
    """What of a volume lies in shells up to `shell`."""
    return filtered(volume, half_shells(volume.shape[-1], 3)[0] <= shell)
