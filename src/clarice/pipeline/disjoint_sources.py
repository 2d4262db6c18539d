"""How reproducible denoised particles are: each denoised twice, from sources that have nothing in common.

Once one half of all Fourier coefficients is shown, of the particle and of one half of the others; once the other half,
and the other others, none of which overlaps one of the first on its micrograph. What both results share came from the
signal, or from the network itself: the same figure for a stack of noise tells how much is the network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.overlap import halves_apart, overlapping
from clarice.core.particles import FloatArray, RowIndex, spread_rows
from clarice.core.progress import Progress, silent
from clarice.core.seeds import generator_of
from clarice.denoise.learned import NEIGHBOURHOOD, look_alikes
from clarice.denoise.network_input import explicit_transfer, network_input
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.trained import TrainedNetwork
from clarice.geometry.fourier import power_by_shell
from clarice.metrics.shells import FIRST_TELLING_SHELL
from clarice.physics.noisy_set import NoisySet
from clarice.training.split_coefficients import drawn_mask

# Particles of each group that are denoised twice, and of how many groups.
_TWICE, _GROUPS = 16, 32


def source_groups(
    noisy: NoisySet, trained: TrainedNetwork, progress: Progress = silent, shown: Tensor | None = None
) -> list[RowIndex]:
    """All rows in groups whose particles are each other's sources: of look-alikes, where a network sees sets.

    Alike in the coefficients `shown` (b, b // 2 + 1), b being the network's box; in all, if None.
    """
    if trained.kind.joint:
        return look_alikes(noisy, trained, NEIGHBOURHOOD, progress, shown)
    return list(np.array_split(np.arange(len(noisy)), -(-len(noisy) // NEIGHBOURHOOD)))


@dataclass(frozen=True)
class SharedPower:
    """By Fourier shell, (box // 2 + 1,): mean power of a coefficient that two images of one particle share, and that
    they have. Both are empty where there was no particle with sources.
    """

    shared: FloatArray
    whole: FloatArray

    @property
    def frc(self) -> FloatArray:
        """Correlation of all pairs of images together; 0 where there is no power."""
        return self.over(self.whole)

    def over(self, power: FloatArray) -> FloatArray:
        """What is shared over a `power` by shell; 0 where there is none."""
        return np.divide(self.shared, power, out=np.zeros_like(power), where=power > 0)

    def share_of(self, particles: SharedPower) -> float | None:
        """What is shared over the power that `particles` have, of all shells that tell of structure; None without any.

        The first shells do not: they tell how large and how bright something is.
        """
        part = slice(FIRST_TELLING_SHELL, len(particles.whole) - 1)
        shells = np.arange(len(particles.whole))[part]  # coefficients of a shell are as many as its radius
        whole = float((shells * particles.whole[part]).sum())
        return float((shells * self.shared[part]).sum()) / whole if whole > 0 else None


def telling_groups(groups: Sequence[RowIndex], twice: NDArray[np.bool_]) -> list[RowIndex]:
    """Those, at most 32 and evenly chosen, that have particles with `twice` (n,) and two others at least."""
    able = [rows for rows in groups if twice[rows].any() and (~twice[rows]).sum() > 1]
    return [able[number] for number in spread_rows(np.arange(len(able)), _GROUPS)]


def shared_power(
    placed: PlacedNetwork, noisy: NoisySet, groups: Sequence[RowIndex], twice: NDArray[np.bool_], seed: int
) -> SharedPower:
    """What two images of particles with `twice` (n,) have in common, in the network's box, up to the stack's Nyquist.

    They are of evenly chosen groups with two others at least, which are their sources.
    """
    chosen = telling_groups(groups, twice)
    if not chosen:
        return SharedPower(np.zeros(0), np.zeros(0))
    pairs = []
    for rows in chosen:
        pairs.append(denoised_twice(placed, noisy, rows[twice[rows]], rows[~twice[rows]], seed))
    first, second = (torch.cat(images).double() for images in zip(*pairs, strict=True))
    # Re(a b*) = (|a + b|² − |a − b|²) / 4
    shared = (power_by_shell(first + second) - power_by_shell(first - second)).mean(dim=0) / 4
    one, other = (power_by_shell(images).mean(dim=0) for images in (first, second))
    known = slice(min(placed.box, noisy.box) // 2 + 1)
    return SharedPower(shared[known].double().numpy(), (one * other).sqrt()[known].double().numpy())


@torch.no_grad()
def denoised_twice(
    placed: PlacedNetwork, noisy: NoisySet, rows: RowIndex, sources: RowIndex, seed: int
) -> tuple[Tensor, Tensor]:
    """Both images (k, L, L) of at most 16 of the particles `rows`, each from one half of the `sources`.

    On their micrograph no source overlaps the particle, nor any source of its other image.
    """
    generator = generator_of(seed, int(rows[0]))
    some = rows[torch.randperm(len(rows), generator=generator).numpy()][:_TWICE]
    others = sources[torch.randperm(len(sources), generator=generator).numpy()]
    shown = drawn_mask(placed.box, 1, 0.5, generator)
    first, second = halves_apart(noisy.particles, others)
    return _denoised(placed, noisy, some, first, shown), _denoised(placed, noisy, some, second, ~shown)


def _denoised(placed: PlacedNetwork, noisy: NoisySet, rows: RowIndex, sources: RowIndex, shown: Tensor) -> Tensor:
    """Particles of `rows` from `sources`, all shown the same part of their coefficients."""
    count, everyone = len(rows), np.concatenate([rows, sources])
    images, transfer = network_input(noisy, everyone, placed.box)
    allowed = ~torch.from_numpy(overlapping(noisy.particles, everyone))[None].to(placed.device)
    # Particles that are denoised twice are no sources: both of their images would have them in common.
    allowed[:, :, :count] = False
    with placed.precision():
        seen = placed.placed(images[None], (explicit_transfer(transfer, images) * shown)[None])
        found = placed.network(*seen, *([allowed] if placed.sees_sets else [])).images
    denoised: Tensor = found[0, :count].float().cpu()
    return denoised
