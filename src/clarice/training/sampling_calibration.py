"""Calibration of diffusion: how wrong a trained network is at each level of noise, measured on images it never saw.

An ancestral step draws as much noise as there is left to say (see `DiffusionNetwork.unsaid`): only then do samples by
few steps lie as far apart as the truth may lie from their mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from clarice.core.progress import Progress, silent
from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.geometry.angular import fast_autocast
from clarice.geometry.fourier import power_by_shell
from clarice.training.estimated_images import EstimatedImages

# Errors of a few images are no more trusted than this, and nothing is ever wholly said.
_LEAST = 1e-4


@torch.no_grad()
def measure_unsaid(
    network: DiffusionNetwork, batches: Iterator[EstimatedImages], images: int, progress: Progress = silent
) -> int:
    """Sets `network.unsaid` by at least `images` images of `batches`; returns how many there were."""
    levels = network.levels()
    sums = torch.zeros_like(network.unsaid)
    done, total = 0, 0.0
    generator = torch.Generator().manual_seed(0)
    while done < images:
        batch = next(batches)
        # Images of which the estimate knew far too little would else stand for all.
        trust = 1 / batch.estimate.residual(batch.clean).square().mean(dim=(-2, -1)).clamp_min(1)
        for row, remaining in enumerate(levels.tolist()):
            sums[row] += _squared_errors(network, batch, remaining, trust, generator)
        done += len(batch.noisy)
        total += float(trust.sum())
        progress("calibrating", min(done, images), images)
    network.unsaid.copy_((sums / total).clamp_min(_LEAST))
    return done


def _squared_errors(
    network: DiffusionNetwork, batch: EstimatedImages, remaining: float, trust: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared errors by shell in terms of v times `trust` (n,), summed over images: (L // 2 + 1,)."""
    device = batch.noisy.device
    residual = batch.estimate.residual(batch.clean)
    noise = torch.randn(residual.shape, generator=generator).to(device)
    share = torch.full((len(residual),), remaining, device=device, dtype=torch.float64)
    signal, rest = remaining**0.5, (1 - remaining) ** 0.5
    with fast_autocast(device):
        cleaned, found = network.cleaned(signal * residual + rest * noise, share, batch.condition)
    # What is said of v, whichever way: (√γ ε − √(1 − γ) r) of what is said of both.
    wrong = signal * (found - noise) - rest * (cleaned - residual)
    return (power_by_shell(wrong) * trust[:, None]).sum(dim=0).cpu()
