"""Denoiser and network of structures as one: noisy images in, the structure that they show out.

The polar transformer denoises the images of a set together; their moments tell the structure's correlations; and the
network that knows structures is told these. Derivatives of what it gets wrong reach the denoiser through the moments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clarice.abinitio.denoised_moments import known_of_images
from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.moment_network import MomentNetwork
from clarice.denoise.polar_transformer import DenoisedRings, PolarTransformer

# What the two are called in files of weights.
DENOISER, STRUCTURES = "denoiser", "structures"


class JointNetwork(nn.Module):
    """For molecules of `diameter_px` in the denoiser's box."""

    def __init__(self, denoiser: PolarTransformer, structures: MomentNetwork, diameter_px: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.structures = structures
        self.diameter_px = diameter_px

    def known_of(self, images: Tensor) -> list[KnownCorrelations]:
        """What the sets (B, N, L, L) of denoised images tell, set by set."""
        with torch.autocast(images.device.type, enabled=False):
            # In double precision and small: on the processor, wherever the networks are.
            spread = self.structures.spread.cpu()
            return [known_of_images(each.float().cpu(), self.diameter_px, spread) for each in images]

    def expected(self, known: KnownCorrelations, noisy: Tensor, level: Tensor) -> Tensor:
        """Structures (T, size) expected from `noisy` (T, size) under noise of `level` (T,), all of one set."""
        with torch.autocast(noisy.device.type, enabled=False):
            found: Tensor = self.structures(noisy, known.repeated(len(noisy)), level)
        return found

    def denoised(self, noisy: Tensor, transfer: Tensor | None) -> DenoisedRings:
        """All that the denoiser finds out about the sets (B, N, L, L)."""
        return self.denoiser.denoise_rings(self.denoiser.measure(noisy, transfer))
