"""The noise schedule of diffusion: the share γ of the variance that is still signal, from 1 to almost 0.

`z = √γ r + √(1 − γ) ε`, ε white noise of variance 1 (SR3, Saharia et al. 2021, eq. 4; γ is their product of α).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Kind = Literal["linear", "cosine"]
# SR3's public implementation: β rises evenly between these over 2,000 steps. A schedule of fewer adds as much noise.
_FIRST_BETA, _LAST_BETA, _USUAL_STEPS = 1e-6, 1e-2, 2000
# Nichol & Dhariwal (2021), eq. 17.
_COSINE_OFFSET, _LARGEST_BETA = 0.008, 0.999


@dataclass(frozen=True)
class NoiseSchedule:
    """`steps` steps from an image to noise; "linear" in β as SR3, or "cosine" as Nichol & Dhariwal (2021).

    Raises ValueError for another kind or no steps.
    """

    kind: Kind = "linear"
    steps: int = 2000

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"schedule {self.kind!r} is not one of {', '.join(get_args(Kind))}")
        if self.steps < 1:
            raise ValueError(f"a schedule of {self.steps} steps has none")

    def remaining(self) -> Tensor:
        """γ after 0, 1, …, `steps` steps, (steps + 1,) float64; the first is 1."""
        if self.kind == "linear":
            beta = torch.linspace(_FIRST_BETA, _LAST_BETA, self.steps, dtype=torch.float64)
            beta = (beta * (_USUAL_STEPS / self.steps)).clamp(max=_LARGEST_BETA)
        else:
            time = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
            left = torch.cos((time + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * math.pi / 2).square()
            beta = (1 - left[1:] / left[:-1]).clamp(max=_LARGEST_BETA)
        return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, dim=0)])

    def drawn(self, count: int, device: torch.device | None = None, generator: torch.Generator | None = None) -> Tensor:
        """γ to train at, (count,) float32: uniform between neighbouring steps, drawn at random (SR3, section 2.4)."""
        remaining = self.remaining().float().to(device or torch.device("cpu"))
        step = torch.randint(self.steps, (count,), device=device, generator=generator)
        share = torch.rand(count, device=device, generator=generator)
        return torch.lerp(remaining[step + 1], remaining[step], share)

    def path(self, steps: int) -> Tensor:
        """γ along a way of so many steps from noise to image, (steps + 1,) float64, rising; the last is 1.

        Steps are evenly spaced in those of the schedule. Raises ValueError for more than it has, or none.
        """
        if not 1 <= steps <= self.steps:
            raise ValueError(f"{steps} steps: choose between 1 and {self.steps}")
        at = torch.linspace(self.steps, 0, steps + 1, dtype=torch.float64).round().long()
        return self.remaining()[at]
