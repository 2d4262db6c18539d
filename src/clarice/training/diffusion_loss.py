"""What diffusion networks are trained to lower: the error of what they say of noisy residuals."""

from __future__ import annotations

from torch import Tensor

from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.training.estimated_images import EstimatedImages


def diffusion_loss(
    network: DiffusionNetwork, images: EstimatedImages, remaining: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared error of what the network says at γ = `remaining` (n,) with `noise` (n, L, L), of each image (n,), twice.

    Once in units of the estimate's error, where all coefficients count the same, and once in the images, where they
    count as wrong as the estimate is there. Both are over what saying nothing would cost, or half of it where the
    estimate was surer than it should have been: a few images of which it knew far too little would else outweigh all
    others.
    """
    estimate = images.estimate
    residual = estimate.residual(images.clean)
    signal, rest = (share.float()[:, None, None] for share in (remaining.sqrt(), (1 - remaining).sqrt()))
    said = network(signal * residual + rest * noise, remaining, images.condition)
    target = network.target(residual, noise, remaining)
    by_coefficient = _power(said - target) / nothing(target, noise)
    in_images = _power(estimate.coloured(said - target)) / nothing(estimate.coloured(target), estimate.coloured(noise))
    return by_coefficient, in_images


def nothing(target: Tensor, noise: Tensor) -> Tensor:
    """What saying nothing costs, (n,): the mean power of the target and of that of an honest estimate."""
    return (_power(target) + _power(noise)) / 2


def _power(images: Tensor) -> Tensor:
    return images.square().sum(dim=(-2, -1))
