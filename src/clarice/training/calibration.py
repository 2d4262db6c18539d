"""Calibration: when a network is trained, what foretells its error is fitted once more, to images it never saw.

While everything else still moves, the foretold error trails behind the real one; and it is learned from the sizes of
sets that training draws most. Here the network stands still, and sets of all sizes count the same. The molecules are
those of training: `foretold_over_actual` tells how well the fit holds for others. The loss is that of training: least
where the foretold error is the mean of the actual one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from clarice.core.progress import Progress, silent
from clarice.denoise.foretold_error import ForetoldError
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.geometry.angular import fast_autocast
from clarice.geometry.fourier import shells_to_nyquist
from clarice.training.batches import SetBatch
from clarice.training.denoising_loss import foretelling_loss, shell_error
from clarice.training.set_draws import with_defaults

T = TypeVar("T")
# How often the fit sees each image, images a step, and its highest learning rate.
_EPOCHS, _IMAGES, _RATE = 100, 512, 4e-3
# The last of so many equal parts of the images is kept out of the fit, to see how well it holds.
_PARTS = 5
_LEAST = 1e-8


@dataclass(frozen=True)
class Calibration:
    """How many images were looked at, and the foretold over the actual error on those that the fit did not see."""

    images: int
    before: float
    after: float


def equal_sizes(sets: dict[str, Any]) -> dict[str, Any]:
    """The sets of a recipe with equal odds for all their sizes."""
    return {**sets, "size_weights": [1.0] * len(with_defaults(sets)["sizes"])}


def calibrate(
    network: PolarTransformer, batches: Iterator[SetBatch], images: int, progress: Progress = silent
) -> Calibration:
    """Fits `network.foretell` to what the network does on at least `images` images of `batches`; all else stays."""
    told, squared, foretold = _observed(network, batches, images, progress)
    kept_out = slice(len(told) - len(told) // _PARTS, None)
    before = _ratio(foretold[kept_out], squared[kept_out])
    seen = slice(None, kept_out.start)
    fit(network.foretell, told[seen], squared[seen])
    with torch.no_grad():
        for tensor in network.foretell.state_dict().values():
            tensor.copy_(tensor.half())  # as it is kept
        after = _ratio(network.foretell(told[kept_out]), squared[kept_out])
    return Calibration(len(told), before, after)


def fit(head: ForetoldError, told: Tensor, squared: Tensor) -> None:
    """Fits `head` anew to squared errors (n, S) of images of which (n, F) is told."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        nn.init.kaiming_uniform_(head.first.weight, a=5**0.5, generator=generator)
        head.first.bias.zero_()
        head.last.weight.zero_()
        head.last.bias.copy_(squared.mean(dim=0).clamp_min(_LEAST).log())
        head.centre.copy_(told.mean(dim=0))
        head.spread.copy_(told.std(dim=0) + 1e-3)
    parameters = [parameter.requires_grad_(True) for parameter in head.parameters()]
    optimiser = torch.optim.AdamW(parameters, _RATE, weight_decay=0.01)
    steps = max(10, _EPOCHS * len(told) // _IMAGES)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(told), (_IMAGES,), generator=generator)
        optimiser.zero_grad()
        torch.autograd.backward(foretelling_loss(head(told[rows]), squared[rows]))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    head.requires_grad_(False)


def foretold_over_actual(network: PolarTransformer, sets: SetBatch) -> float:
    """Foretold over actual error on sets (B, N, L, L), summed over images and all their coefficients."""
    each = (sets.sets(slice(row, row + 1)) for row in range(len(sets.noisy)))
    _, squared, foretold = _observed(network, each, sets.noisy.shape[:2].numel())
    return _ratio(foretold, squared)


@torch.no_grad()
def _observed(
    network: PolarTransformer, batches: Iterator[SetBatch], images: int, progress: Progress = silent
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each image what is told (n, F), its squared error (n, S) and the logarithm foretold of it (n, S)."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    while done < images:
        batch = next(batches)
        torch.set_num_threads(torch.get_num_threads())  # a thread that makes specimens took one for all, see `Learner`
        with fast_autocast(batch.noisy.device):
            found = network.denoise_rings(network.measure(batch.noisy, batch.transfer))
            estimate = network.estimate_of(found)
        if estimate.log_error is None:
            raise TypeError("the network foretells no error")
        each = (found.told, shell_error(estimate.images, batch.clean), estimate.log_error)
        parts.append((each[0].flatten(0, 1).cpu(), each[1].flatten(0, 1).cpu(), each[2].flatten(0, 1).cpu()))
        done += batch.noisy.shape[:2].numel()
        progress("calibrating", min(done, images), images)
    told, squared, foretold = (torch.cat(part) for part in zip(*parts, strict=True))
    return told, squared, foretold


def _ratio(log_error: Tensor, squared: Tensor) -> float:
    """Foretold over actual error of whole images, from those of their shells' coefficients (n, S)."""
    _, members = shells_to_nyquist(2 * (squared.shape[-1] - 1), squared.device)
    return float((log_error.exp() * members).sum() / (squared * members).sum().clamp_min(_LEAST))


def endless(batch: Callable[[int], T], first: int) -> Iterator[T]:
    """Batches from number `first` on."""
    while True:
        yield batch(first)
        first += 1
