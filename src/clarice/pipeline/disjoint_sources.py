"""How reproducible denoised particles are: each denoised twice, from sources that have nothing in common.

Once it is shown one half of its own Fourier coefficients and one half of the other particles, once the other halves.
Noise is independent between the two, so what both results share came from the signal, or from the network itself: the
same figure for a stack of noise tells how much is the network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import RowIndex
from clarice.denoise.network_input import network_input
from clarice.denoise.placed_network import PlacedNetwork
from clarice.metrics.shells import frc
from clarice.physics.noisy_set import NoisySet
from clarice.training.split_coefficients import drawn_mask

# Particles of each group that are denoised twice.
_TWICE = 16


def disjoint_frc(placed: PlacedNetwork, noisy: NoisySet, groups: Sequence[RowIndex], seed: int) -> NDArray[np.float64]:
    """Mean FRC (box // 2 + 1,) between the two images of some particles of each group, in the network's box."""
    curves = [
        frc(*(images.numpy() for images in denoised_twice(placed, noisy, group, seed + number)))
        for number, group in enumerate(groups)
    ]
    return np.asarray(np.nan_to_num(np.concatenate(curves)).mean(axis=0))


@torch.no_grad()
def denoised_twice(placed: PlacedNetwork, noisy: NoisySet, group: RowIndex, seed: int) -> tuple[Tensor, Tensor]:
    """Both images (k, L, L) of some particles of a group."""
    generator = torch.Generator().manual_seed(seed)
    rows = group[torch.randperm(len(group), generator=generator).numpy()]
    count = max(1, min(_TWICE, len(rows) // 3))
    own = drawn_mask(placed.box, count, 0.5, generator)
    others = rows[count:]
    first = _denoised(placed, noisy, rows[:count], own, others[0::2])
    return first, _denoised(placed, noisy, rows[:count], ~own, others[1::2])


def _denoised(placed: PlacedNetwork, noisy: NoisySet, rows: RowIndex, shown: Tensor, sources: RowIndex) -> Tensor:
    """Particles of `rows`, shown a part of their coefficients, from `sources`."""
    count = len(rows)
    images, transfer = network_input(noisy, np.concatenate([rows, sources]), placed.box)
    if transfer is None:
        transfer = torch.ones((len(images), placed.box, placed.box // 2 + 1))
    transfer = torch.cat([transfer[:count] * shown, transfer[count:]])
    # Particles that are denoised twice are no sources: each would bring its other half to the others.
    allowed = torch.ones((1, len(images), len(images)), dtype=torch.bool, device=placed.device)
    allowed[:, :, :count] = False
    with placed.precision():
        seen = placed.placed(images[None], transfer[None])
        found = placed.network(*seen, *([allowed] if placed.sees_sets else [])).images
    denoised: Tensor = found[0, :count].float().cpu()
    return denoised
