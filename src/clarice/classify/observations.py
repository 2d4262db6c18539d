"""Whitened particles as Fourier rings with their transfer functions: what every step here reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import FloatArray, ParticleSet, RowIndex
from clarice.geometry.expectation import RingStack
from clarice.geometry.polar import FourierRings
from clarice.physics.ctf import ctf_at

# Images transformed at a time, in pixels: what a chunk holds stays below about 200 MB.
CHUNK_PIXELS = 2**22


class WhitenedSet(Protocol):
    """Particles of the model `y = W H x + e`, protein bright, e white Gaussian of variance 1 a pixel.

    H is the CTF of each particle (|H| where `phase_flipped`; 1 without optics), W the radial filter that
    whitened the noise: row `noise_group[i]` (n,) of `whitening` (g, L // 2 + 1).
    """

    @property
    def particles(self) -> ParticleSet: ...
    @property
    def whitening(self) -> FloatArray: ...
    @property
    def noise_group(self) -> NDArray[np.int64]: ...
    @property
    def phase_flipped(self) -> bool: ...


@dataclass(frozen=True)
class PlainWhitenedSet:
    """Particles whose noise is white with variance 1 as they are: `whitening` is 1."""

    particles: ParticleSet
    phase_flipped: bool = False

    @property
    def whitening(self) -> FloatArray:
        return np.ones((1, self.particles.box // 2 + 1))

    @property
    def noise_group(self) -> NDArray[np.int64]:
        return np.zeros(len(self.particles), dtype=np.int64)


def images_of(observed: WhitenedSet, rows: RowIndex) -> Tensor:
    """Images of `rows`, (k, L, L) float32."""
    return torch.from_numpy(np.ascontiguousarray(observed.particles.read(rows), dtype=np.float32))


def transfer_on(observed: WhitenedSet, rows: RowIndex, rings: FourierRings) -> Tensor:
    """W H of `rows` sampled on the rings, (k, R, T // 2) float32."""
    shape = (len(rows), rings.count, rings.n_angles // 2)
    transfer = torch.ones(shape)
    if observed.particles.optics is not None:
        points = rings.frequencies() / observed.particles.pixel_size_angstrom
        transfer = ctf_at(observed.particles.optics.subset(rows), points[:, 0], points[:, 1]).view(shape)
    if observed.phase_flipped:
        transfer = transfer.abs()
    shells = np.arange(observed.whitening.shape[1])
    radii = np.minimum(rings.radii, shells[-1])
    filters = np.stack([np.interp(radii, shells, row) for row in observed.whitening])
    return transfer * torch.from_numpy(filters[observed.noise_group[rows]]).float()[..., None]


def ring_stack(observed: WhitenedSet, rows: RowIndex, rings: FourierRings) -> RingStack:
    """The images of `rows` on the rings, read and transformed chunk by chunk."""
    step = max(8, CHUNK_PIXELS // rings.box**2)
    filtered = torch.empty((len(rows), rings.count, rings.n_angles // 2), dtype=torch.complex64)
    power = torch.empty((len(rows), rings.count))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        stack = RingStack.of(images_of(observed, part), transfer_on(observed, part, rings), rings)
        filtered[start : start + step], power[start : start + step] = stack.filtered, stack.power
    return RingStack(rings, filtered, power)


def rings_for(box: int, max_radius: float, diameter_px: float, multiple: int = 1) -> FourierRings:
    """`FourierRings.up_to`, with the number of angles raised to a multiple of 8 · `multiple`."""
    rings = FourierRings.up_to(box, max_radius, diameter_px)
    return FourierRings(box, rings.radii, 8 * multiple * math.ceil(rings.n_angles / (8 * multiple)))
