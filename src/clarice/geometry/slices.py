"""Projections of a volume by its central Fourier slices (Fourier slice theorem), and their exact adjoint."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.geometry.fourier import centred_fft2, centred_ifft2, frequency_grid, radius_grid
from clarice.geometry.nufft import fourier_at, spread_from


def slice_frequencies(rotations: NDArray[np.float64] | Tensor, fx: Tensor, fy: Tensor) -> Tensor:
    """Molecule-frame frequencies (n, m, 3) of view-plane frequencies `fx`, `fy` (m,), cycles per pixel.

    A view-plane vector k = (fx, fy, 0) lies at Rᵀ k in the molecule's frame, because `x_view = R @ x_molecule`.
    """
    matrices = torch.as_tensor(rotations, dtype=torch.float32, device=fx.device)
    in_plane = torch.stack([fx, fy], dim=-1)  # (m, 2)
    return in_plane @ matrices[:, :2, :]  # (n, m, 3)


def _inside_nyquist(box: int, device: torch.device) -> Tensor:
    """The disk within which every rotated slice stays inside the volume's own frequencies."""
    return radius_grid(box, 2, device) < box / 2


def project(volume: Tensor, rotations: NDArray[np.float64] | Tensor) -> Tensor:
    """Projections (n, L, L) of a volume (L, L, L) along the beam of each rotation (n, 3, 3).

    Sums along z_view, axes (y_view, x_view), band-limited to the Nyquist disk. Differentiable in `volume`.
    """
    box = volume.shape[-1]
    inside = _inside_nyquist(box, volume.device)
    fy, fx = frequency_grid(box, volume.device)
    frequencies = slice_frequencies(rotations, fx[inside], fy[inside])
    count = len(frequencies)
    values = fourier_at(volume, frequencies.reshape(-1, 3)).reshape(count, -1)
    spectra = torch.zeros((count, box, box), dtype=values.dtype, device=volume.device)
    spectra[:, inside] = values
    return centred_ifft2(spectra).real


def backproject(images: Tensor, rotations: NDArray[np.float64] | Tensor, box: int) -> Tensor:
    """Exact adjoint of `project`: images (n, L, L) smeared back into a volume (box, box, box), box = L.

    Raises ValueError when `box` is not the images' edge.
    """
    if images.shape[-1] != box:
        raise ValueError(f"images of {images.shape[-1]} px cannot be back-projected into a box of {box}")
    inside = _inside_nyquist(box, images.device)
    fy, fx = frequency_grid(box, images.device)
    frequencies = slice_frequencies(rotations, fx[inside], fy[inside])
    spectra = centred_fft2(images)[:, inside] / box**2
    return spread_from(spectra.reshape(-1), frequencies.reshape(-1, 3), box).real
