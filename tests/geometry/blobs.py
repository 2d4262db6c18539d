"""Gaussian blobs, whose projections and Fourier transforms are known in closed form, and plain Fourier sums."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]

# (x, y, z) in pixels from the centre, and a height each: no symmetry, no mirror plane.
CENTRES = np.array([[3.0, -2.0, 1.0], [-4.0, 1.5, 2.5], [0.5, 3.0, -4.0], [-1.0, -3.5, -2.0]])
HEIGHTS = np.array([1.0, 0.7, 1.3, 0.5])
WIDTH = 1.3


def blob_volume(box: int, centres: FloatArray = CENTRES, heights: FloatArray = HEIGHTS, width: float = WIDTH) -> Tensor:
    """Blobs on a (box, box, box) grid about index box // 2, float32."""
    axis = np.arange(box) - box // 2
    volume = np.zeros((box, box, box))
    for (x, y, z), height in zip(centres, heights, strict=True):
        along = [np.exp(-((axis - c) ** 2) / (2 * width**2)) for c in (z, y, x)]
        volume += height * np.einsum("i,j,k->ijk", *along)
    return torch.from_numpy(volume).float()


def blob_image(box: int, centres: FloatArray, heights: FloatArray = HEIGHTS) -> Tensor:
    """The same blobs summed along z: an image (box, box) of the blobs' x and y, float32."""
    axis = np.arange(box) - box // 2
    image = np.zeros((box, box))
    for (x, y), height in zip(centres[:, :2], heights, strict=True):
        along = [np.exp(-((axis - c) ** 2) / (2 * WIDTH**2)) for c in (y, x)]
        image += height * np.einsum("i,j->ij", *along)
    return torch.from_numpy(image * np.sqrt(2 * np.pi) * WIDTH).float()


def blob_projections(box: int, rotations: FloatArray) -> Tensor:
    """Projections (n, box, box) of `blob_volume` by turning the blobs' centres."""
    return torch.stack([blob_image(box, CENTRES @ rotation.T) for rotation in rotations])


def fourier_sum(array: Tensor, frequencies: Tensor) -> Tensor:
    """Σ_x f(x) exp(−2πi q·(x − centre)) in double precision: (..., m) for q (m, 2) or (m, 3) in (x, y[, z])."""
    ndim = frequencies.shape[1]
    axis = torch.arange(array.shape[-1], dtype=torch.float64) - array.shape[-1] // 2
    grid = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij"), dim=-1).reshape(-1, ndim).flip(-1)
    waves = torch.exp(-2j * torch.pi * (grid @ frequencies.double().T))
    return array.flatten(start_dim=-ndim).to(torch.complex128) @ waves


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


def inner(a: Tensor, b: Tensor) -> complex:
    """⟨a, b⟩ = Σ a conj b in double precision."""
    return complex((a.to(torch.complex128) * b.to(torch.complex128).conj()).sum())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
