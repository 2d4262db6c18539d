"""Groups of particles that look alike, whatever their in-plane angle: the sets in which a large stack is denoised."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import RowIndex

# What is compared: Fourier rings and angular frequencies up to these.
_RINGS, _FREQUENCIES = 12, 12


def invariants(fourier_rings: Tensor, area: Tensor) -> Tensor:
    """Amplitudes of the angular waves on Fourier rings (n, T, K): the same for a turned image, (n, features).

    `area` (K,) weighs the rings so that distances are those of images.
    """
    rings = fourier_rings[..., :_RINGS] * area[:_RINGS].sqrt()
    spectrum = torch.fft.rfft(rings, dim=1, norm="ortho")[:, : _FREQUENCIES + 1]
    features: Tensor = spectrum.abs().flatten(1)
    return features


def neighbourhoods(features: NDArray[np.float32], size: int) -> list[RowIndex]:
    """Rows (n, features) in groups of at most `size`, about equal, each row in one group and ascending within it.

    Halved again and again across the direction in which the features vary most, so time is n log n.
    """
    count = -(-len(features) // size)
    groups = [np.sort(rows) for rows in _halved(features, np.arange(len(features)), count)]
    return sorted(groups, key=lambda rows: int(rows[0]))


def _halved(features: NDArray[np.float32], rows: RowIndex, count: int) -> list[RowIndex]:
    if count <= 1:
        return [rows]
    centred = features[rows] - features[rows].mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    order = rows[np.argsort(centred @ directions[:, -1], kind="stable")]
    left = count // 2
    cut = round(len(rows) * left / count)
    return _halved(features, order[:cut], left) + _halved(features, order[cut:], count - left)
