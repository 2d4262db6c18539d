"""Endless training batches, made on the fly on the device: sets of noisy images of one molecule, with their truth.

Batch number p depends on the settings and p alone: stopping and going on at p is the same as never having stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.geometry.interpolated_slices import images_of, shifted, slice_spectra
from clarice.physics.ctf import ctf_at, rfft_frequency_grid
from clarice.physics.noise import poisson_image, poisson_scale
from clarice.training.set_draws import SetDraws, SetSettings, draw_sets, optics_in_pixels
from clarice.training.specimen_pool import SpecimenPool
from clarice.training.surroundings import StructuralImages, structural_images

# Batches whose specimens are built ahead of need.
_AHEAD = 3


@dataclass(frozen=True)
class SetBatch:
    """B sets of N images each of one molecule: `y = W H S_{−t} P_R v + e`, e white of variance 1 a pixel.

    Where the noise is Poisson, its counts are scaled so that their variance is 1 on average over the set.
    """

    noisy: Tensor  # (B, N, L, L) float32, protein bright
    clean: Tensor  # (B, N, L, L): CTF-free projection with its shift, in units of the noise's standard deviation
    transfer: Tensor | None  # (B, N, L, L // 2 + 1): W H on the grid of rfft2; None where it is 1 everywhere
    view: Tensor  # (B, N) int64: number of the view within the set, −1 for an empty image
    angle_rad: Tensor  # (B, N): in-plane angle by which the view was turned
    snr: Tensor  # (B,): set mean of the signal's mean square with its CTF, over the noise's variance
    power: Tensor  # (B,): set mean of Σ clean² over the particles; for an empty set what they would have had

    def tensors(self) -> dict[str, Tensor]:
        """All that is there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in values.items() if tensor is not None}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> SetBatch:
        """The batch whose `tensors` they are."""
        values: dict[str, Any] = {"transfer": None, **tensors}
        return cls(**values)

    def to(self, device: torch.device) -> SetBatch:
        """The same sets on another device."""
        return SetBatch.of({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def sets(self, rows: slice) -> SetBatch:
        """Some of the sets."""
        return SetBatch.of({name: tensor[rows] for name, tensor in self.tensors().items()})


class EndlessSets:
    """Batches by number. With several processes each makes the sets rank, rank + world, … of the same batch."""

    def __init__(self, settings: SetSettings, specimens: SpecimenPool, device: torch.device) -> None:
        self.settings = settings
        self.specimens = specimens
        self.device = device
        self.box = specimens.settings.box
        self._draws = lru_cache(maxsize=2 * _AHEAD + 2)(lambda position: draw_sets(settings, position, specimens.slots))

    def draws(self, position: int, rank: int = 0, world: int = 1) -> SetDraws:
        """What batch `position` (or a process's share of it) shows.

        Raises UsageError when the batches cannot be shared out evenly.
        """
        images, sizes = self.settings.images_per_batch, self.settings.sizes
        if any((images // size) % world for size in sizes):
            raise UsageError(
                f"a batch of {images} images does not go into {world} equal parts of whole sets, as many as processes "
                f"times training.accumulate: make sets.images_per_batch a multiple of {math.lcm(*sizes) * world}, or "
                "take fewer parts"
            )
        return self._draws(position).share(rank, world)

    @torch.no_grad()
    def batch(self, position: int, rank: int = 0, world: int = 1) -> SetBatch:
        """Batch number `position`, or the share of process `rank` of `world`."""
        draws = self.draws(position, rank, world)
        spectra, pixel_sizes = self.specimens.spectra(position, draws.slot, self.device)
        coming = [self.draws(position + step, rank, world).slot for step in range(1, _AHEAD + 1)]
        self.specimens.expect(
            number
            for step, slots in enumerate(coming, start=1)
            for number in self.specimens.numbers(position + step)[slots]
        )
        return form_sets(draws, spectra, pixel_sizes[draws.slot], self.settings.least_ctf_pixel_angstrom)


def form_sets(
    draws: SetDraws, spectra: Tensor, pixel_size_angstrom: NDArray[np.float64], least_ctf_pixel_angstrom: float = 0.0
) -> SetBatch:
    """Images of the drawn sets, on the device of the pool's `spectra` (see `oversampled_spectrum`).

    `pixel_size_angstrom` (B,): of each set. The CTF is that of pixels of at least `least_ctf_pixel_angstrom`: with
    smaller ones it would spread a particle over several boxes, and such stacks are not worked on uncropped.
    """
    device, box = spectra.device, spectra.shape[3] - 1
    sets, size = draws.view.shape
    which = torch.from_numpy(draws.slot).repeat_interleave(size)
    rotations = draws.rotations.flatten(0, 1)
    projections = shifted(slice_spectra(spectra, which, rotations), draws.shifts_px.flatten(0, 1).to(device), box)
    clean = images_of(projections, box)
    signal, wide_transfer, transfer = clean, None, None
    if draws.defocus_rows is not None:
        fy, fx = rfft_frequency_grid(2 * box, device)
        pixels = np.maximum(pixel_size_angstrom, least_ctf_pixel_angstrom)
        wide_transfer = ctf_at(optics_in_pixels(draws, pixels), fx, fy)
        signal = _through_ctf(clean, wide_transfer)
        transfer = wide_transfer[:, ::2, ::2].reshape(sets, size, box, box // 2 + 1)
    clean, signal = (images.reshape(sets, size, box, box) for images in (clean, signal))
    beside = None
    if draws.strengths is not None:
        described = draws.strengths, draws.noise_seed, clean, spectra, draws.slot, pixel_size_angstrom
        beside = structural_images(*described, wide_transfer)
    return _with_noise(draws, clean, signal, transfer, beside)


def _through_ctf(images: Tensor, wide_transfer: Tensor) -> Tensor:
    """Images (n, L, L) with their CTF (n, 2L, L + 1), applied at twice the box and cropped."""
    box, wide = images.shape[-1], wide_transfer.shape[-2]
    # Zeros follow the image instead of surrounding it: the same up to a shift around, and the crop is its start.
    spread = torch.fft.irfft2(torch.fft.rfft2(images, s=(wide, wide)) * wide_transfer, s=(wide, wide))
    return spread[:, :box, :box]


def _with_noise(
    draws: SetDraws, clean: Tensor, signal: Tensor, transfer: Tensor | None, beside: StructuralImages | None
) -> SetBatch:
    """Signal scaled to each set's SNR and with its noise; images without a particle have noise alone, structural or
    not. Structural noise counts in no SNR.
    """
    device = clean.device
    view = draws.view.to(device)
    present = (view >= 0).float()
    # An empty set is scaled as if its particles were there.
    counted = torch.where(present.any(dim=1, keepdim=True), present, torch.ones_like(present))
    counted = counted / counted.sum(dim=1, keepdim=True)
    square = (signal.square().mean(dim=(-2, -1)) * counted).sum(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    poisson = torch.from_numpy(draws.poisson).to(device)
    # Other noise does not grow with the signal: as if its mean were 0.
    mean = (signal.mean(dim=(-2, -1)) * present).mean(dim=1) * poisson
    snr = draws.snr.to(device)
    scale, deviation = poisson_scale(square, mean, snr)
    signal = signal * (scale[:, None] * present)[..., None, None]
    if beside is not None:
        signal = signal + beside.seen * scale[:, None, None, None]
    noisy = torch.empty_like(signal)
    generator = torch.Generator(device)
    for row, seed in enumerate(draws.noise_seed):
        generator.manual_seed(int(seed))
        if draws.poisson[row]:
            noisy[row] = poisson_image(signal[row], generator) / deviation[row]
        else:
            noisy[row].normal_(generator=generator).add_(signal[row])
    if beside is not None:
        noisy += beside.on_top
    clean = clean * (scale / deviation)[:, None, None, None]
    power = (clean.square().sum(dim=(-2, -1)) * counted).sum(dim=1)
    clean = clean * present[..., None, None]
    return SetBatch(noisy, clean, transfer, view, draws.angle_rad.to(device), snr, power)
