"""Structural noise of training sets: which kinds a set carries, how strongly, and what its images show of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.geometry.fourier import resize_centred
from clarice.geometry.interpolated_slices import images_of, slice_spectra
from clarice.physics.structural_noise import StructuralNoise, Surroundings, on_detector

FloatArray = NDArray[np.float64]

# A pool's specimens have one shape each, so floppy ones are left to `clarice.physics.simulate`.
KINDS = ("neighbours", "carbon", "ice", "gradient", "streaks", "hot_pixels")
# How often a set with structural noise carries each kind, and the range of strengths, even in their logarithm.
_ODDS, _STRENGTHS = 0.4, (0.25, 2.0)


def draw_strengths(sets: int, share: float, generator: torch.Generator) -> FloatArray:
    """The strength of each of `KINDS` in each set, (sets, kinds): all 0 but in a `share` of the sets."""
    draws = torch.rand((sets, 2 * len(KINDS) + 2), generator=generator, dtype=torch.float64).numpy()
    present, size = draws[:, : len(KINDS)] < _ODDS, draws[:, len(KINDS) : 2 * len(KINDS)]
    present[np.arange(sets), (draws[:, -2] * len(KINDS)).astype(int)] = True
    low, high = np.log(_STRENGTHS)
    return np.asarray(np.exp(low + size * (high - low)) * present * (draws[:, -1:] < share))


@dataclass(frozen=True)
class StructuralImages:
    """What the images of all sets show beside their particles: `seen` (B, N, L, L), in the units of the signal, and
    `on_top` (B, N, L, L), in those of the noise.
    """

    seen: Tensor
    on_top: Tensor


def structural_images(
    strengths: FloatArray,
    seeds: NDArray[np.uint64],
    particles: Tensor,
    spectra: Tensor,
    slots: NDArray[np.int64],
    pixel_size_angstrom: FloatArray,
    wide_transfer: Tensor | None,
) -> StructuralImages:
    """Of sets whose `particles` (B, N, L, L) are projections of the pool's `spectra` in `slots` (B,).

    `wide_transfer` (B · N, 2L, L + 1): the CTF at twice the box, None for none. Each set draws from its own seed.
    """
    size, box = particles.shape[1:3]
    images = StructuralImages(torch.zeros_like(particles), torch.zeros_like(particles))
    for row in np.flatnonzero(strengths.any(axis=1)):
        # The noise of the set takes the seed itself.
        generator = torch.Generator().manual_seed(int(seeds[row]) + 1)
        noise = StructuralNoise(**dict(zip(KINDS, strengths[row].tolist(), strict=True)))

        def project(rotations: FloatArray, slot: int = int(slots[row])) -> Tensor:
            which = torch.full((len(rotations),), slot)
            projections = images_of(slice_spectra(spectra, which, torch.from_numpy(rotations)), box)
            return resize_centred(projections.cpu(), 2 * box, 2)

        around = Surroundings(noise, box, float(pixel_size_angstrom[row]), project, (), generator)
        field = around.beside(resize_centred(particles[row].cpu(), 2 * box, 2))
        if field is not None:
            part = slice(int(row) * size, (int(row) + 1) * size)
            images.seen[row] = _seen(field.to(particles.device), None if wide_transfer is None else wide_transfer[part])
        images.on_top[row] = on_detector(noise, size, box, generator).to(particles.device)
    return images


def _seen(field: Tensor, transfer: Tensor | None) -> Tensor:
    """A field (n, 2L, 2L) through the CTF, cropped to (n, L, L)."""
    width = field.shape[-1]
    if transfer is not None:
        field = torch.fft.irfft2(torch.fft.rfft2(field) * transfer, s=(width, width))
    return resize_centred(field, width // 2, 2)
