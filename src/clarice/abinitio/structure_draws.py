"""Structures drawn from what a network knows of molecules, and of the correlations that were measured.

Noise is taken away level by level: at each, the network says what structure is to be expected from the one under noise,
and fresh noise of the next level is put on that (the stochastic sampler of Song et al., ICLR 2021, with all its noise
renewed). At the highest level nothing is seen but the correlations, so every draw lies and folds as it will: many are
drawn, and what else is known chooses among them. From a lower level a structure is drawn anew around a given one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.moment_network import MomentNetwork
from clarice.core.parallel import operations_shared
from clarice.core.progress import Progress, silent

# Levels follow σ^(1/ρ) in equal steps (Karras et al. 2022, eq. 5).
_RHO = 5.0


@dataclass(frozen=True)
class DrawSettings:
    """How many structures are drawn, in how many `steps` from the `highest` level of noise to the `lowest`."""

    count: int = 8
    steps: int = 24
    highest: float = 20.0
    lowest: float = 0.03
    seed: int = 0


@torch.no_grad()
def draw_structures(
    network: MomentNetwork, known: KnownCorrelations, settings: DrawSettings, progress: Progress = silent
) -> Tensor:
    """Structures (count, size) in scaled coefficients, as the network expects them; `known` is of one stack."""
    generator = torch.Generator().manual_seed(settings.seed)
    noisy = settings.highest * torch.randn((settings.count, network.spread.numel()), generator=generator)
    levels = _levels(settings.highest, settings.lowest, settings.steps)
    return _cleaned(network, known.repeated(settings.count), noisy, levels, generator, progress)


@torch.no_grad()
def drawn_around(
    network: MomentNetwork,
    known: KnownCorrelations,
    structures: Tensor,
    level: float,
    generator: torch.Generator,
    lowest: float,
    steps: int = 6,
) -> Tensor:
    """Structures (n, size) drawn anew from `structures` (n, size) under noise of `level`."""
    noisy = structures + level * torch.randn(structures.shape, generator=generator)
    levels = _levels(level, min(lowest, level), steps)
    return _cleaned(network, known.repeated(len(structures)), noisy, levels, generator, silent)


def _levels(highest: float, lowest: float, steps: int) -> list[float]:
    ends = torch.linspace(0, 1, steps, dtype=torch.float64)
    return [float(level) for level in (highest ** (1 / _RHO) * (1 - ends) + lowest ** (1 / _RHO) * ends) ** _RHO]


def _cleaned(
    network: MomentNetwork,
    known: KnownCorrelations,
    noisy: Tensor,
    levels: list[float],
    generator: torch.Generator,
    progress: Progress,
) -> Tensor:
    network.eval()
    with operations_shared():
        for number, level in enumerate(levels, start=1):
            found: Tensor = network(noisy, known, torch.full((len(noisy),), level, device=noisy.device))
            progress("drawing structures", number, len(levels))
            if number < len(levels):
                noisy = found + levels[number] * torch.randn(found.shape, generator=generator)
    return found
