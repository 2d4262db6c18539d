"""Made maps for the metrics: a chain of blobs, without symmetry and with a hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

BlobMap = Callable[..., NDArray[np.float32]]


def blob_positions(seed: int, count: int, extent: float) -> NDArray[np.float64]:
    """A random chain of `count` centres (x, y, z), centred on its mean, at most `extent` from it."""
    generator = np.random.default_rng(seed)
    steps = generator.normal(size=(count, 3))
    chain = np.cumsum(steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    chain -= chain.mean(axis=0)
    return chain * extent / np.linalg.norm(chain, axis=1).max()


def draw_blobs(positions: NDArray[np.float64], box: int, sigma_px: float) -> NDArray[np.float32]:
    """Gaussian blobs at (x, y, z) `positions`, in pixels from index box // 2, as a (z, y, x) map."""
    axis = np.arange(box) - box // 2
    lines = np.exp(-((axis - positions[:, :, None]) ** 2) / (2 * sigma_px**2))
    return np.einsum("nx,ny,nz->zyx", lines[:, 0], lines[:, 1], lines[:, 2]).astype(np.float32)


@pytest.fixture
def blob_map() -> BlobMap:
    """Draws the map of chain `seed`, optionally with its centres mirrored, turned and shifted (x, y, z)."""

    def draw(
        seed: int = 1,
        box: int = 48,
        sigma_px: float = 1.5,
        count: int = 60,
        rotation: NDArray[np.float64] | None = None,
        shift_px: NDArray[np.float64] | None = None,
        mirrored: bool = False,
    ) -> NDArray[np.float32]:
        positions = blob_positions(seed, count, 0.33 * box) * (-1 if mirrored else 1)
        positions = positions if rotation is None else positions @ rotation.T
        return draw_blobs(positions if shift_px is None else positions + shift_px, box, sigma_px)

    return draw


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)
