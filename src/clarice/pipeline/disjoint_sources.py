"""How reproducible denoised particles are: each denoised twice, from sources that have nothing in common.

Once one half of all Fourier coefficients is shown, of the particle and of one half of the others; once the other half,
and the other others. The noise of particles that overlap on their micrograph is in different coefficients then. What
both results share came from the signal, or from the network itself: the same figure for a stack of noise tells how much
is the network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import FloatArray, RowIndex
from clarice.core.seeds import generator_of
from clarice.denoise.network_input import explicit_transfer, network_input
from clarice.denoise.placed_network import PlacedNetwork
from clarice.metrics.shells import frc
from clarice.physics.noisy_set import NoisySet
from clarice.training.split_coefficients import drawn_mask

# Particles of each group that are denoised twice, and of how many groups.
_TWICE, _GROUPS = 16, 32


def disjoint_frc(
    placed: PlacedNetwork, noisy: NoisySet, groups: Sequence[RowIndex], twice: NDArray[np.bool_], seed: int
) -> FloatArray:
    """Mean FRC (box // 2 + 1,) between two images of particles with `twice` (n,), in the network's box.

    They are of evenly chosen groups with two others at least, which are their sources; empty where there are none.
    """
    able = [rows for rows in groups if twice[rows].any() and (~twice[rows]).sum() > 1]
    chosen = np.unique(np.linspace(0, max(len(able) - 1, 0), _GROUPS).astype(np.int64)) if able else ()
    curves = []
    for number in chosen:
        rows = able[number]
        first, second = denoised_twice(placed, noisy, rows[twice[rows]], rows[~twice[rows]], seed)
        curves.append(np.nan_to_num(frc(first.numpy(), second.numpy())))
    return np.concatenate(curves).mean(axis=0) if curves else np.zeros(0)


@torch.no_grad()
def denoised_twice(
    placed: PlacedNetwork, noisy: NoisySet, rows: RowIndex, sources: RowIndex, seed: int
) -> tuple[Tensor, Tensor]:
    """Both images (k, L, L) of at most 16 of the particles `rows`, each from one half of the `sources`."""
    generator = generator_of(seed, int(rows[0]))
    some = rows[torch.randperm(len(rows), generator=generator).numpy()][:_TWICE]
    others = sources[torch.randperm(len(sources), generator=generator).numpy()]
    shown = drawn_mask(placed.box, 1, 0.5, generator)
    return _denoised(placed, noisy, some, others[0::2], shown), _denoised(placed, noisy, some, others[1::2], ~shown)


def _denoised(placed: PlacedNetwork, noisy: NoisySet, rows: RowIndex, sources: RowIndex, shown: Tensor) -> Tensor:
    """Particles of `rows` from `sources`, all shown the same part of their coefficients."""
    count = len(rows)
    images, transfer = network_input(noisy, np.concatenate([rows, sources]), placed.box)
    # Particles that are denoised twice are no sources: both of their images would have them in common.
    allowed = torch.ones((1, len(images), len(images)), dtype=torch.bool, device=placed.device)
    allowed[:, :, :count] = False
    with placed.precision():
        seen = placed.placed(images[None], (explicit_transfer(transfer, images) * shown)[None])
        found = placed.network(*seen, *([allowed] if placed.sees_sets else [])).images
    denoised: Tensor = found[0, :count].float().cpu()
    return denoised
