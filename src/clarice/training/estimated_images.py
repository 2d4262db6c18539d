"""Simulated images with what is known of them before diffusion: by the joint denoiser, or by the power of their set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.denoise.diffusion import FIRST
from clarice.denoise.diffusion_network import Condition
from clarice.denoise.gaussian_estimate import GaussianEstimate
from clarice.denoise.network_input import explicit_transfer
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.trained import load_network, weights_digest
from clarice.geometry.angular import fast_autocast
from clarice.io.weights import weights_path
from clarice.training.batches import SetBatch
from clarice.training.denoising_loss import shell_error
from clarice.training.network_copies import NetworkCopies
from clarice.training.validation import SetKind

# Images of a set that stand for it at least: the power of fewer is too much that of each.
_LEAST_SET = 4


@dataclass(frozen=True)
class EstimatedImages:
    """n whitened particles, their clean images and W H (None where it is 1), and what was known of them before.

    `mean` (n, L, L) and `squared_error` (n, L // 2 + 1): see `GaussianEstimate`.
    """

    noisy: Tensor
    clean: Tensor
    transfer: Tensor | None
    mean: Tensor
    squared_error: Tensor

    @property
    def estimate(self) -> GaussianEstimate:
        return GaussianEstimate(self.mean, self.squared_error)

    @property
    def condition(self) -> Condition:
        return Condition.of(self.noisy, self.transfer, self.estimate)

    def part(self, rows: slice) -> EstimatedImages:
        """Some of the images."""
        return self._each(lambda tensor: tensor[rows])

    def rows(self, rows: Tensor) -> EstimatedImages:
        """The images of these numbers, in their order."""
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> EstimatedImages:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> EstimatedImages:
        transfer = None if self.transfer is None else change(self.transfer)
        return EstimatedImages(
            change(self.noisy), change(self.clean), transfer, change(self.mean), change(self.squared_error)
        )


def joined(parts: Sequence[EstimatedImages]) -> EstimatedImages:
    """The images of all parts in a row; where some have a W H, that of the others is 1."""
    transfers = None
    if any(part.transfer is not None for part in parts):
        transfers = torch.cat([explicit_transfer(part.transfer, part.noisy) for part in parts])
    noisy, clean, mean, squared = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("noisy", "clean", "mean", "squared_error")
    )
    return EstimatedImages(noisy, clean, transfers, mean, squared)


def known_images(sets: SetBatch, first: FirstNetwork | None) -> EstimatedImages:
    """All images of the sets, with what is known of them by the joint denoiser `first`, or by their power without."""
    return known_by_power(sets) if first is None else first.known(sets)


def known_in_parts(
    sets: SetBatch, first: FirstNetwork | None, device: torch.device, images_at_once: int
) -> EstimatedImages:
    """The same of sets on the CPU, worked out on `device` with about so many images at a time."""
    step = max(1, images_at_once // sets.noisy.shape[1])
    parts = [sets.sets(slice(start, start + step)).to(device) for start in range(0, len(sets.noisy), step)]
    return joined([known_images(part, first).to(torch.device("cpu")) for part in parts])


def known_by_power(sets: SetBatch) -> EstimatedImages:
    """All images of the sets, of which nothing is known but the mean power of their set's clean images by shell.

    That is what `denoise` finds in a stack of thousands; of a few images it would tell too much of each.
    """
    power = shell_error(torch.zeros_like(sets.clean), sets.clean).mean(dim=1, keepdim=True)
    squared = power.expand(-1, sets.clean.shape[1], -1)
    return _flat(sets, torch.zeros_like(sets.clean), squared)


def insist_on_sets(sizes: Sequence[int], kinds: Sequence[SetKind]) -> None:
    """Raises UsageError where `known_by_power` would say too much of images in sets of these `sizes` and `kinds`."""
    few = [f"sets.sizes has {size}" for size in sizes if size < _LEAST_SET]
    few += [f"the validation kind {kind.name} has {kind.images}" for kind in kinds if kind.images < _LEAST_SET]
    if few:
        raise UsageError(f"{few[0]}: images of which the power is known, and no more, come in sets of {_LEAST_SET}")


class FirstNetwork:
    """The joint denoiser of the weights in `path` (those that `denoise` uses if None), for images of `box` pixels."""

    def __init__(self, path: Path | None, box: int) -> None:
        self.path = path or weights_path(FIRST)
        self.box = box

    @cached_property
    def digest(self) -> str:
        """The first sixteen digits of the SHA-256 of the weights. Raises InputError when they cannot be read."""
        return weights_digest(self.path)

    @cached_property
    def copies(self) -> NetworkCopies[PolarTransformer]:
        """Raises InputError when the weights are those of another network, or for another box."""
        return NetworkCopies(load_network(self.path, PolarTransformer, FIRST, self.box, "first"))

    @torch.no_grad()
    def known(self, sets: SetBatch) -> EstimatedImages:
        """All images of the sets, each set denoised jointly, with the error that is foretold."""
        device = sets.noisy.device
        with fast_autocast(device):
            found = self.copies.on(device)(sets.noisy, sets.transfer)
        return _flat(sets, found.images, found.log_error.exp())


def _flat(sets: SetBatch, mean: Tensor, squared_error: Tensor) -> EstimatedImages:
    transfer = None if sets.transfer is None else sets.transfer.flatten(0, 1)
    flat = (tensor.flatten(0, 1) for tensor in (mean, squared_error))
    return EstimatedImages(sets.noisy.flatten(0, 1), sets.clean.flatten(0, 1), transfer, *flat)
