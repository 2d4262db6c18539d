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
from clarice.abinitio.structure_space import learned_rings


def moments_of_images(images: Tensor, rings: MomentRings) -> Moments:
    """Of images (n, L, L) without noise or CTF. Differentiable."""
    return Moments.of(images, images.new_ones((len(images), len(rings.radii))), rings, noise_variance=0.0)


def known_of_images(images: Tensor, diameter_px: float, spread: Tensor) -> KnownCorrelations:
    """What centred images (n, L, L) without noise or CTF tell; `spread` (size,) is the population's. Differentiable."""
    moments = moments_of_images(images, learned_rings(images.shape[-1], diameter_px))
    return KnownCorrelations.measured(moments.first_moment(), autocorrelations(moments, diameter_px), spread)
