"""What a network makes of some images, whatever it is for: kept beside weights, so that any machine can check them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clarice.denoise.diffusion_network import Condition, DiffusionNetwork
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.refiner import Refiner

# Share of the variance that is signal where a diffusion network is asked.
_REMAINING = 0.5


@torch.no_grad()
def answer(network: nn.Module, noisy: Tensor) -> Tensor:
    """Images of the shape of `noisy` (1, n, L, L), in float32.

    Of a network that samples or refines: what it says of the images as residuals, from nothing known with error 1.
    """
    if not isinstance(network, (DiffusionNetwork, Refiner)):
        found: Tensor = network(noisy).images
        return found
    flat = noisy.flatten(0, 1)
    nothing = GaussianEstimate(torch.zeros_like(flat), torch.ones((len(flat), flat.shape[-1] // 2 + 1)))
    condition = Condition.of(flat, None, nothing)
    if isinstance(network, Refiner):
        said = network(flat, condition)
    else:
        said = network(flat, torch.full((len(flat),), _REMAINING), condition)
    return said.view(noisy.shape)
