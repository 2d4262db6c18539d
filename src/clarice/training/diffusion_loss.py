"""What diffusion networks are trained to lower: the error of what they say of noisy residuals."""

from __future__ import annotations

from torch import Tensor

from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.training.estimated_images import EstimatedImages


def diffusion_loss(
    network: DiffusionNetwork, images: EstimatedImages, remaining: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared error of what the network says at γ = `remaining` (n,) with `noise` (n, L, L): of each image (n,), twice.

    Once in units of the estimate's error, where all coefficients count the same, and once in the images, where they
    count as wrong as the estimate is there. With the target v, both are 1 for a network that says nothing and an
    estimate whose error is as foretold.
    """
    estimate = images.estimate
    residual = estimate.residual(images.clean)
    signal, rest = (share.float()[:, None, None] for share in (remaining.sqrt(), (1 - remaining).sqrt()))
    said = network(signal * residual + rest * noise, remaining, images.condition)
    wrong = said - network.target(residual, noise, remaining)
    box = wrong.shape[-1]
    in_images = estimate.coloured(wrong).square().sum(dim=(-2, -1))
    expected = estimate.coloured(noise).square().sum(dim=(-2, -1))
    return wrong.square().sum(dim=(-2, -1)) / box**2, in_images / expected
