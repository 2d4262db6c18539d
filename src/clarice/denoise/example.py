"""What a network makes of some images, whatever it is for: kept beside weights, so that any machine can check them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clarice.denoise.diffusion_network import Condition, DiffusionNetwork
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.refiner import Refiner
from clarice.denoise.trained import EXAMPLE_IMAGES, EXAMPLE_NOISY, TrainedNetwork, network_settings
from clarice.geometry.fourier import radius_grid

# Images of the example, in one set.
_IMAGES = 4
# Share of the variance that is signal where a diffusion network is asked.
_REMAINING = 0.5


def example_images(box: int) -> Tensor:
    """Images (1, 4, L, L) to try a network on, in numbers that halves of the usual precision hold."""
    noisy = torch.randn((1, _IMAGES, box, box), generator=torch.Generator().manual_seed(1)).half().float()
    noisy += (radius_grid(box, 2) <= box / 6).float()  # something to see
    return noisy.half().float()


def with_example(tensors: dict[str, Tensor], trained: TrainedNetwork) -> dict[str, Tensor]:
    """Weights of a network as they are kept, at half precision, with images and what it makes of them then."""
    network = trained.kind.build({k: v for k, v in network_settings(trained).items() if k != "name"})
    kept = {name: t.half().float() if t.is_floating_point() else t for name, t in tensors.items()}
    network.load_state_dict(kept)
    noisy = example_images(trained.box)
    return {**kept, EXAMPLE_NOISY: noisy, EXAMPLE_IMAGES: answer(network.eval(), noisy)}


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
