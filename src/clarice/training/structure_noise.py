"""Structures under noise, as networks that know structures learn from them: how strong it is, and what an error counts.

Levels of noise span three decades, and every one of them counts alike.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.training.simulated_sets import SettingsPart


class NoiseLevels(SettingsPart):
    """The keys of a recipe for levels of noise, which are log-normal within bounds."""

    log_level_mean: float = -0.3
    log_level_spread: float = Field(default=1.3, gt=0)
    least_level: float = Field(default=0.02, gt=0)
    largest_level: float = Field(default=30.0, gt=0)

    def drawn(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Levels of noise of a `shape`."""
        level = self.log_level_mean + self.log_level_spread * torch.randn(shape, generator=generator)
        return level.exp().clamp(self.least_level, self.largest_level)


def insist_on_order(least: str, low: float, largest: str, high: float) -> None:
    """Raises UsageError, naming both keys, where the bounds of a range are exchanged."""
    if low > high:
        raise UsageError(f"{least} {low:g} is above {largest} {high:g}: exchange them")


def structure_error(found: Tensor, clean: Tensor) -> Tensor:
    """Squared error of structures (…, size) over the square of `clean`, (…)."""
    return (found - clean).square().mean(dim=-1) / clean.square().mean(dim=-1)


def level_weight(level: Tensor) -> Tensor:
    """By what errors under noise of `level` are multiplied, so that all levels count alike."""
    return 1 + level.square().reciprocal()
