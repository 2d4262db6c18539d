"""Structures in the learned space for tests: a few blobs, which no rotation and no mirror leaves alone."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from clarice.abinitio.structure_space import structure_space


def blobs(seed: int, box: int = 32, count: int = 12) -> Tensor:
    """A volume (box, box, box) of blobs in a molecule's place, centred on its mass."""
    generator = torch.Generator().manual_seed(seed)
    places = (torch.rand((count, 3), generator=generator) - 0.5) * 0.4 * box
    weights = 0.5 + torch.rand(count, generator=generator)
    places -= (weights[:, None] * places).sum(dim=0) / weights.sum()
    axis = torch.arange(box, dtype=torch.float32) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    width = 2 * (0.035 * box) ** 2
    return sum(  # type: ignore[return-value]
        w * torch.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / width)
        for w, (a, b, c) in zip(weights.tolist(), places.tolist(), strict=True)
    )


@lru_cache(maxsize=1)
def population() -> Tensor:
    """Coefficients (12, size) of such structures, scaled to degree 0."""
    return structure_space().scaled(torch.stack([structure_space().of_volume(blobs(seed)) for seed in range(12)]))


def spread() -> Tensor:
    """The population's root mean square, (size,)."""
    return structure_space().spread_of(population())
