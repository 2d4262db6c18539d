"""Guidance for attention while it learns: which other image, at which angle, truly shows the same.

The noise-free images say how far image j, turned by φ, is from image i: d²_ij(φ). Averaging it in pays while d² is
small against the noise it takes away, so the guide is a softmax of −d² / τ over (j, φ), with a fixed score for keeping
to oneself. What attention falls short of it, as a Kullback–Leibler divergence, is added to the loss with a small
weight: networks then find matches many times sooner than from the images' error alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clarice.denoise.angular_weights import AngularWeights
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.geometry.angular import RULED_OUT, assign, correlate_spectra, to_spectrum

# τ, and the score of no match, in units of the noise variance: about what halves an average's worth.
TEMPERATURE = 4.0
KEPT_SCORE = -3.0
_LEAST = 1e-8
# What is kept is what a sum in float32 lacks of one: below this there is nothing but its rounding.
_LEAST_KEPT = 1e-5


@torch.no_grad()
def fourier_rings(network: PolarTransformer, clean: Tensor) -> Tensor:
    """Fourier rings (B, n, T, K) of noise-free images (B, n, L, L)."""
    frame = network.frame
    rings = (clean.flatten(2) @ network.analysis).view(*clean.shape[:2], frame.n_angles, -1)
    return rings[..., frame.real_rings :]


@torch.no_grad()
def guide(network: PolarTransformer, rings: Tensor) -> Tensor:
    """The posterior (T, B, n, j) that the noise-free images call for, from their `fourier_rings`."""
    n_angles = network.frame.n_angles
    fourier = rings * network.ring_area.sqrt()
    spectrum = to_spectrum(fourier.transpose(-2, -1))
    power = fourier.square().sum(dim=(-2, -1))
    distance = power[:, :, None] + power[:, None] - 2 * correlate_spectra(spectrum, spectrum, n_angles)
    itself = torch.eye(rings.shape[1], dtype=torch.bool, device=rings.device)
    scores = (-distance.clamp_min(0) / TEMPERATURE).masked_fill(itself, RULED_OUT)
    return assign(scores, torch.full_like(power, KEPT_SCORE))


def divergence(attended: Sequence[AngularWeights], target: Tensor, clean: Tensor) -> Tensor:
    """Mean over blocks, heads and images of KL(target ‖ attention), in nats; 0 for empty images.

    Empty images count all the same: how many there are differs between the shares of a batch, whose mean this is.
    """
    shown = (clean.square().sum(dim=(-2, -1)) > 0).float()
    kept = (1 - target.sum(dim=(0, -1))).clamp(0, 1)
    entropy = -(target * target.clamp_min(_LEAST).log()).sum(dim=(0, -1)) - kept * kept.clamp_min(_LEAST_KEPT).log()
    total = target.new_zeros(())
    for weights in attended:
        log_weight = weights.posterior.clamp_min(_LEAST).log().mean(dim=2)
        log_kept = weights.kept.clamp_min(_LEAST_KEPT).log().mean(dim=1)
        cross = -(target * log_weight).sum(dim=(0, -1)) - kept * log_kept
        total = total + ((cross - entropy) * shown).mean()
    return total / len(attended)
