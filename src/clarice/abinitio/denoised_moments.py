"""What denoised images tell of the structure that they show, if they show it from everywhere.

Their moments are those of no noise, and yet not the structure's: a denoiser leaves out what it does not see, and draws
images towards what it knows. By how much follows a rule that a network can learn; and since all of this is
differentiable, a denoiser can learn to leave moments as they are.
"""

from __future__ import annotations

from torch import Tensor

from clarice.abinitio.kam import autocorrelations
from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.moments import MomentRings, Moments
from clarice.abinitio.structure_space import structure_space


def learned_rings(box: int, diameter_px: float) -> MomentRings:
    """The rings of the learned space, for the first two moments of molecules of `diameter_px`."""
    space = structure_space()
    return MomentRings(box, space.radii(box, diameter_px), space.degree, 0, 0)


def known_of_images(images: Tensor, diameter_px: float, spread: Tensor) -> KnownCorrelations:
    """What centred images (n, L, L) without noise or CTF tell; `spread` (size,) is the population's. Differentiable."""
    rings = learned_rings(images.shape[-1], diameter_px)
    transfer = images.new_ones((len(images), len(rings.radii)))
    moments = Moments.of(images, transfer, rings, noise_variance=0.0)
    return KnownCorrelations.measured(moments.first_moment(), autocorrelations(moments, diameter_px), spread)
