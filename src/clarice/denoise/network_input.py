"""Particles as networks take them: in the box they were trained on, with noise of variance 1, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from clarice.core.overlap import overlapping
from clarice.core.particles import RowIndex
from clarice.geometry.fourier import fourier_resize
from clarice.physics.noisy_set import NoisySet


def resized_transfer(transfer: Tensor, old: int, box: int) -> Tensor:
    """A filter (n, old, old // 2 + 1) on the grid of rfft2, for the same field of view with edge `box`.

    Frequencies that one of the grids lacks, Nyquist of an even box among them, get 0: nothing is known there.
    """
    if box == old:
        return transfer
    cycles = torch.fft.fftfreq(box, d=1 / box).round().long()
    columns = (min(box, old) + 1) // 2
    known = cycles.abs() < columns
    resized = transfer.new_zeros((len(transfer), box, box // 2 + 1))
    rows = transfer[:, cycles[known] % old, :columns]
    resized[:, known, :columns] = rows
    return resized


def known_band(old: int, box: int) -> Tensor:
    """Which coefficients of images brought from edge `old` to `box` hold anything, (box, box // 2 + 1) bool."""
    return resized_transfer(torch.ones((1, old, old // 2 + 1)), old, box)[0] > 0


def explicit_transfer(transfer: Tensor | None, images: Tensor) -> Tensor:
    """W H (..., L, L // 2 + 1) of `images` (..., L, L), written out where None says that it is 1."""
    if transfer is not None:
        return transfer
    return images.new_ones((*images.shape[:-1], images.shape[-1] // 2 + 1))


def network_input(noisy: NoisySet, rows: RowIndex, box: int) -> tuple[Tensor, Tensor | None]:
    """Images (k, box, box) of `rows`, white noise still of variance 1, and their W H, None where it is 1."""
    images = noisy.images(rows)
    if noisy.box != box:
        images = fourier_resize(images, box, 2) * (noisy.box / box)
    plain = noisy.particles.optics is None and bool((noisy.whitening == 1).all())
    if plain and noisy.box == box:
        return images, None
    return images, resized_transfer(noisy.transfer_of(rows), noisy.box, box)


def allowed_sources(noisy: NoisySet, rows: RowIndex) -> Tensor | None:
    """Which particles of a set may be sources of which, (1, k, k) bool; None where all may.

    None whose boxes overlap may: on the noise they share they would find each other, and it would be taken for signal.
    """
    together = overlapping(noisy.particles, rows)
    return ~torch.from_numpy(together)[None] if together.any() else None


def error_from_network(by_shell: Tensor, box: int) -> Tensor:
    """Squared errors (k, S) of a network's coefficients by Fourier shell, for the set's own box: (k, box // 2 + 1).

    An orthonormal transform's coefficients are the same in both; shells beyond the network's take its last one's error.
    """
    shells = torch.arange(box // 2 + 1).clamp(max=by_shell.shape[-1] - 1)
    return by_shell[:, shells]


def from_network(images: Tensor, box: int) -> Tensor:
    """Estimates (k, box, box) in the set's own box, from the network's."""
    if images.shape[-1] == box:
        return images
    return fourier_resize(images, box, 2) * (images.shape[-1] / box)
