"""The signal in prepared particles over their noise, by range of defocus.

The signal is what an image shares with the map of the half set it does not belong to, projected at its pose and seen
through its CTF: y = α W H P + e. Power alone would not tell it: on crowded grids the surroundings of a particle, from
which noise would be known, hold as much power as the particle. What neighbours and ice add counts as noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.core.particles import FloatArray, Poses, RowIndex, spread_rows
from clarice.geometry.fourier import shell_index
from clarice.geometry.interpolated_slices import oversampled_spectrum, shifted, slice_spectra
from clarice.physics.noisy_set import NoisySet

# Up to here particles are aligned and classified by themselves; finer, an image is noise to the last digits.
COARSEST_ANGSTROM = 20.0
# The background's mean was taken from each image, and with it what the first shells held.
FIRST_SHELL, FEWEST_SHELLS = 2, 3
# The part of the band, in frequency, that is its fine end.
FINE_END = 0.75
# Ranges of defocus, the least that one holds, and the images of one that are read.
MOST_GROUPS, FEWEST_PARTICLES, MOST_READ = 8, 100, 512


@dataclass(frozen=True)
class Snr:
    """Power of signal over power of noise, over the whole box, in a band of Fourier shells; with its standard error.

    Of `read` images. `scale` is α, the map's contrast in these images, with its `scale_error`: the CTF and the
    whitening are in it already, so it falls only where images show less than their CTF promises.
    """

    value: float
    error: float
    scale: float
    scale_error: float
    read: int


@dataclass(frozen=True)
class DefocusGroup:
    """Particles of one range of mean defocus ((U + V) / 2, Å, positive for underfocus), and their SNR."""

    least_angstrom: float
    most_angstrom: float
    particles: int
    snr: Snr


@dataclass(frozen=True)
class MeasuredSnr:
    """SNR of all particles and of each range of defocus (empty without CTF), up to `finest_angstrom`.

    `fine_end` is that of all particles in the last quarter of the band alone.
    """

    whole: Snr
    fine_end: Snr
    groups: tuple[DefocusGroup, ...]
    finest_angstrom: float


def groups_of_defocus(defocus_angstrom: FloatArray) -> list[RowIndex]:
    """Rows of up to eight ranges of defocus (n,), the least first, of about as many particles each.

    Where there are no more values than that, and enough particles of each, every value is a group. Equal values, as
    those of one micrograph are, stay together. An optics group says which microscope it was, not which defocus.
    """
    rounded = np.round(defocus_angstrom)
    values, counts = np.unique(rounded, return_counts=True)
    if len(values) <= MOST_GROUPS and counts.min() >= FEWEST_PARTICLES:
        edges = values[1:]
    else:
        groups = int(np.clip(len(rounded) // FEWEST_PARTICLES, 1, MOST_GROUPS))
        edges = np.unique(np.quantile(rounded, np.arange(1, groups) / groups))
    label = np.searchsorted(edges, rounded, side="right")
    return [np.flatnonzero(label == number) for number in np.unique(label)]


def measured_snr(particles: NoisySet, poses: Poses, references: Tensor, which: RowIndex) -> MeasuredSnr:
    """SNR of prepared particles (n), all and by range of defocus, at `poses` with shifts in their pixels.

    `references` (p, L, L, L) are maps, and `which` (n,) the one each particle is compared with: that of the other half
    set, so that the map holds none of the image's noise. The pose was found by the image itself, which makes the SNR
    read high by some five coefficients' noise an image; a map that does not reach 20 Å, or poses that are wrong, make
    it read low. Of each range 512 images are read at most.
    """
    box, pixel = particles.box, particles.particles.pixel_size_angstrom
    last = int(np.clip(round(box * pixel / COARSEST_ANGSTROM), FIRST_SHELL + FEWEST_SHELLS - 1, box // 2 - 1))
    compare = _Comparison(particles, poses, references, which, last)
    optics = particles.particles.optics
    defocus = None if optics is None else (optics.defocus_u_angstrom + optics.defocus_v_angstrom) / 2
    groups, products, weights = [], [], []
    for rows in [np.arange(len(particles))] if defocus is None else groups_of_defocus(defocus):
        read = spread_rows(rows, MOST_READ)
        products.append(compare(read))
        weights.append(np.full(len(read), len(rows) / len(read)))
        if defocus is not None:
            least, most = float(defocus[rows].min()), float(defocus[rows].max())
            groups.append(DefocusGroup(least, most, len(rows), _snr(products[-1][:, 0])))
    together, weight = np.concatenate(products), np.concatenate(weights)
    whole, fine_end = (_snr(together[:, band], weight) for band in (0, 1))
    return MeasuredSnr(whole, fine_end, tuple(groups), box * pixel / last)


class _Comparison:
    """Products of images with projections of maps, over Fourier shells from the second to `last` and its fine end."""

    def __init__(self, particles: NoisySet, poses: Poses, references: Tensor, which: RowIndex, last: int) -> None:
        self.particles, self.poses, self.which = particles, poses, torch.from_numpy(np.asarray(which, np.int64))
        self.spectra = torch.stack([oversampled_spectrum(reference) for reference in references])
        box = particles.box
        shells = torch.fft.ifftshift(shell_index(box, 2))[:, : box // 2 + 1]
        # All but the column of x = 0 stand for their Hermitian partners as well.
        first = torch.tensor([FIRST_SHELL, max(FIRST_SHELL, round(FINE_END * last))])[:, None, None]
        self.weight = ((shells >= first) & (shells <= last)).double()
        self.weight[..., 1:] *= 2

    def __call__(self, rows: RowIndex) -> FloatArray:
        """Of each image y and projection p: ⟨y, p⟩, ⟨p, p⟩ and ⟨y, y⟩, in the band and at its fine end, (k, 2, 3)."""
        step = self.particles.rows_per_chunk
        return np.concatenate([self._of(rows[start : start + step]) for start in range(0, len(rows), step)])

    def _of(self, rows: RowIndex) -> FloatArray:
        box = self.particles.box
        images = torch.fft.rfft2(torch.fft.ifftshift(self.particles.images(rows), dim=(-2, -1)))
        rotations = torch.from_numpy(self.poses.rotations[rows]).float()
        slices = slice_spectra(self.spectra, self.which[rows], rotations)
        expected = shifted(slices, torch.from_numpy(self.poses.shifts_px[rows]).float(), box)
        expected = expected * self.particles.transfer_of(rows)
        pairs = ((images, expected), (expected, expected), (images, images))
        products = [(first * second.conj()).real.double() for first, second in pairs]
        found: FloatArray = torch.einsum("sklm,blm->kbs", torch.stack(products), self.weight).numpy()
        return found


def _snr(products: FloatArray, weight: FloatArray | None = None) -> Snr:
    """From products (k, 3) of one band, weighted.

    With their means a, b, t the scale is α = a / b, the signal s = a² / b and the noise t − s. Errors by the
    delta method, from how images scatter.
    """
    share = np.full(len(products), 1 / len(products)) if weight is None else weight / weight.sum()
    crossed, expected, total = share @ products
    if not (expected > 0 and total > 0):
        return Snr(0.0, 0.0, 0.0, 0.0, len(products))
    scale = crossed / expected
    signal = max(scale, 0.0) * crossed
    noise = max(total - signal, 1e-9 * total)
    off = products - (crossed, expected, total)
    of_signal = 2 * scale * off[:, 0] - scale**2 * off[:, 1]
    of_ratio = of_signal * (1 + signal / noise) / noise - off[:, 2] * signal / noise**2
    of_scale = (off[:, 0] - scale * off[:, 1]) / expected
    unbiased = len(products) / max(len(products) - 1, 1)
    errors = [float(np.sqrt(unbiased * np.square(share * values).sum())) for values in (of_ratio, of_scale)]
    return Snr(float(signal / noise), errors[0], float(scale), errors[1], len(products))
