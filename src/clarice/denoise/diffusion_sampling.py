"""Sampling: from noise to a residual by a few steps or many, ancestral or deterministic (DDIM).

An ancestral step draws from q(z' | z, r) (Ho et al. 2020, eq. 6) with what the network says in place of the residual r;
how wrong it is there belongs to the variance of the step (Bao et al. 2022), or few steps make samples too much alike.
DDIM (Song et al. 2021) draws its start alone, and needs many steps where little is known of a residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.denoise.diffusion_network import Condition, DiffusionNetwork
from clarice.physics.noise import filter_radially

Sampler = Literal["ancestral", "ddim"]


@dataclass(frozen=True)
class SamplingSettings:
    """`steps` from noise to image; `samples` of each particle; `sampler` "ancestral", which adds noise at every step,
    or "ddim", which does not; `seed` of all.

    Raises UsageError for what there is none of.
    """

    steps: int = 20
    samples: int = 8
    sampler: Sampler = "ancestral"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} must be at least 1")
        if self.sampler not in get_args(Sampler):
            raise UsageError(f"there is no sampler {self.sampler!r}: choose one of {', '.join(get_args(Sampler))}")
        if self.seed < 0:
            raise UsageError(f"the seed {self.seed} must not be negative")


class Draws:
    """White noise for n images, each from a generator of its own: samples do not depend on what is sampled beside."""

    def __init__(self, seeds: Sequence[int], box: int) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._box = box

    def noise(self) -> Tensor:
        """(n, L, L)."""
        return torch.stack([torch.randn((self._box, self._box), generator=one) for one in self._generators])


def path_of(network: DiffusionNetwork, settings: SamplingSettings) -> Tensor:
    """γ along the steps from noise to image, (steps + 1,), rising to 1.

    Raises UsageError for more steps than the network's schedule has.
    """
    try:
        return network.size.noise_schedule.path(settings.steps)
    except ValueError as error:
        raise UsageError(str(error)) from error


@torch.no_grad()
def sample_residuals(
    network: DiffusionNetwork, condition: Condition, settings: SamplingSettings, draws: Draws
) -> Tensor:
    """One residual (n, L, L) of each image of the condition, in units of its estimate's error.

    Raises UsageError for more steps than the network's schedule has.
    """
    path = path_of(network, settings)
    device = condition.shown.device
    residual = draws.noise().to(device)
    for now, then in zip(path[:-1].tolist(), path[1:].tolist(), strict=True):
        remaining = torch.full((len(residual),), now, device=device, dtype=torch.float64)
        cleaned, noise = network.cleaned(residual, remaining, condition)
        if settings.sampler == "ddim":
            residual = then**0.5 * cleaned + (1 - then) ** 0.5 * noise
            continue
        share = 1 - now / then  # of the noise at the start of the step, what it takes away
        kept, moved = (now / then) ** 0.5 * (1 - then) / (1 - now), then**0.5 * share / (1 - now)
        fresh = share * (1 - then) / (1 - now) + moved**2 * (1 - now) * network.unsaid_at(remaining)
        residual = kept * residual + moved * cleaned + filter_radially(draws.noise().to(device), fresh.sqrt())
    return residual
