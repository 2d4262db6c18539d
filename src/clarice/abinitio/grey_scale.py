"""The grey scale of a map from elsewhere, matched to the particles it is to explain."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.ring_source import RingSource
from clarice.abinitio.views import ViewGrid
from clarice.core.particles import spread_rows
from clarice.geometry.polar import FourierRings

# Radius in cycles per particle diameter up to which power is compared, and particles looked at.
COMPARED_RADIUS, SAMPLE = 6.5, 1000


def compared_radius(box: int, diameter_px: float) -> float:
    """Fourier pixels up to which a starting map and particles are compared."""
    return min(COMPARED_RADIUS * box / diameter_px, box / 2 - 1)


def matched_scale(particles: RingSource, volume: Tensor, diameter_px: float) -> Tensor:
    """`volume` (L, L, L) times the factor that gives its projections the particles' signal power.

    On each ring the filtered image H y has the power H⁴ |X|² + H² L², so the factor is the square root of
    Σ (|H y|² − H² L²) / Σ H⁴ |X|², with |X|² the mean over views.
    """
    box = particles.box
    rings = FourierRings.up_to(box, compared_radius(box, diameter_px), diameter_px)
    rows = spread_rows(np.arange(len(particles)), SAMPLE)
    stack = particles.rings(rings, rows)
    weights = rings.area_weights()
    measured = stack.filtered.abs().square().mean(dim=-1) - stack.power * box**2
    references = ViewGrid.spread(30.0, rings, volume.shape[-1], np.eye(3), mirrored=True).references(volume)
    expected = stack.power.square() * references.square().mean(dim=(0, 2))
    ratio = (measured * weights).sum() / (expected * weights).sum().clamp_min(1e-30)
    return volume * torch.sqrt(ratio.clamp_min(1e-12))
