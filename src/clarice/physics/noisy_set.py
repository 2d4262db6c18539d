"""What a denoiser is given: particles made ready, and how the signal in them was filtered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import FloatArray, ParticleSet, RowIndex, spread_rows
from clarice.geometry.expectation import RingStack
from clarice.geometry.polar import FourierRings
from clarice.physics.ctf import ctf_at, rfft_frequency_grid
from clarice.physics.noise import radial_to_rfft_grid

# Floats that one chunk of images may hold: a few transforms of it stay far below a gigabyte.
CHUNK_PIXELS = 2**22
# Images that tell one set of particles from another.
_TELLING_IMAGES = 256


@dataclass(frozen=True)
class NoisySet:
    """Particles of the model `y = W H x + e`, protein bright, e white Gaussian of variance 1 a pixel.

    H is the CTF of each particle (|H| where `phase_flipped`; 1 where the set has no optics) and W the radial
    filter that whitened its noise: row `noise_group[i]` of `whitening` (g, L // 2 + 1), noise_group (n,).
    A denoiser returns x, in the units W was made for: those of the input's noise standard deviation.
    `noise_error` (L // 2 + 1,) is the relative error, by shell, of the noise's variance: what rises above the
    noise by less than that is no evidence of signal.
    """

    particles: ParticleSet
    whitening: FloatArray
    noise_group: NDArray[np.int64]
    noise_error: FloatArray
    phase_flipped: bool = False

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def box(self) -> int:
        """Edge of the images, pixels."""
        return self.particles.box

    @property
    def rows_per_chunk(self) -> int:
        """Images to work on at a time."""
        return max(8, CHUNK_PIXELS // self.box**2)

    def subset(self, rows: RowIndex) -> NoisySet:
        """A view of `rows`, in that order."""
        return replace(self, particles=self.particles.subset(rows), noise_group=self.noise_group[rows])

    def images(self, rows: RowIndex) -> Tensor:
        """Images of `rows`, (k, L, L) float32."""
        return torch.from_numpy(np.ascontiguousarray(self.particles.read(rows), dtype=np.float32))

    def ctf_of(self, rows: RowIndex) -> Tensor:
        """H of `rows` on the grid of `torch.fft.rfft2`, (k, L, L // 2 + 1)."""
        fy, fx = rfft_frequency_grid(self.box)
        if self.particles.optics is None:
            return torch.ones((len(rows), *fx.shape))
        pixel = self.particles.pixel_size_angstrom
        transfer = ctf_at(self.particles.optics.subset(rows), fx / pixel, fy / pixel)
        return transfer.abs() if self.phase_flipped else transfer

    def whitening_of(self, rows: RowIndex) -> Tensor:
        """W of `rows`, (k, L // 2 + 1) float32."""
        return torch.from_numpy(self.whitening[self.noise_group[rows]]).float()

    def transfer_of(self, rows: RowIndex) -> Tensor:
        """W H of `rows` on the grid of `torch.fft.rfft2`, (k, L, L // 2 + 1)."""
        return self.ctf_of(rows) * radial_to_rfft_grid(self.whitening_of(rows), self.box)

    def rings(self, rings: FourierRings, rows: RowIndex) -> RingStack:
        """The images of `rows` on Fourier rings, filtered by their W H; read and transformed chunk by chunk."""
        shape = (len(rows), rings.count, rings.n_angles // 2)
        filtered, power = torch.empty(shape, dtype=torch.complex64), torch.empty(shape[:2])
        for start in range(0, len(rows), self.rows_per_chunk):
            part = slice(start, start + self.rows_per_chunk)
            stack = RingStack.of(self.images(rows[part]), self.transfer_on(rings, rows[part]), rings)
            filtered[part], power[part] = stack.filtered, stack.power
        return RingStack(rings, filtered, power)

    def transfer_on(self, rings: FourierRings, rows: RowIndex) -> Tensor:
        """W H of `rows` at the samples of the rings, (k, R, T // 2)."""
        shape = (len(rows), rings.count, rings.n_angles // 2)
        transfer = torch.ones(shape)
        if self.particles.optics is not None:
            points = rings.frequencies() / self.particles.pixel_size_angstrom
            transfer = ctf_at(self.particles.optics.subset(rows), points[:, 0], points[:, 1]).view(shape)
        if self.phase_flipped:
            transfer = transfer.abs()
        shells = np.arange(self.whitening.shape[1])
        radii = np.minimum(rings.radii, shells[-1])
        filters = np.stack([np.interp(radii, shells, row) for row in self.whitening])
        return transfer * torch.from_numpy(filters[self.noise_group[rows]]).float()[..., None]

    def digest(self) -> str:
        """Sixteen digits that tell this set from others: of its numbers, optics and filters, and of 256 of its images.

        The same particles in another contrast, CTF state, box, order or half set are another set.
        """
        particles = self.particles
        optics = particles.optics
        known = [] if optics is None else [getattr(optics, field.name) for field in fields(optics)]
        sample = particles.read(self.sample_rows(_TELLING_IMAGES))
        told = hashlib.sha256(f"{len(self)} {self.box} {particles.pixel_size_angstrom} {self.phase_flipped}".encode())
        for values in (self.whitening, self.noise_group, *known, sample):
            told.update(np.ascontiguousarray(values).tobytes())
        return told.hexdigest()[:16]

    def sample_rows(self, count: int) -> RowIndex:
        """At most `count` rows, evenly spaced: enough for statistics of the whole set."""
        return spread_rows(np.arange(len(self)), count)


def white_set(particles: ParticleSet) -> NoisySet:
    """A NoisySet of particles whose noise is known to be white with variance 1 as they are."""
    shells = particles.box // 2 + 1
    group = np.zeros(len(particles), dtype=np.int64)
    return NoisySet(particles, np.ones((1, shells)), group, np.zeros(shells))
