"""Images as signals along the angle, and back: rings of real space and of Fourier space, as two dense matrices.

The rings are laid on a fine angular grid first and low-passed to the coarse one, so that what lies between coarse
angles, noise above all, neither folds back nor is thrown away. Turning an image by a step of the coarse grid shifts
its signals by one sample, up to the Cartesian grid; turning it by 90° about its centre pixel does so exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from clarice.geometry.fourier import radius_grid
from clarice.geometry.polar import Basis, FourierRings, RealPolarGrid

# Rings are sampled at so many times the coarse angles, before they are low-passed.
OVERSAMPLING = 3


@dataclass(frozen=True)
class PolarFrame:
    """Which rings stand for an image (box, box): `real_rings` in real space, then `fourier_rings` in Fourier space.

    Real rings lie `real_spacing_px` apart from half of that on; Fourier rings at 1, 2, … cycles per box, in Hartley
    form. `n_angles` T, a multiple of 4, holds angular frequencies below T / 2. Each ring is scaled so that white
    noise of variance 1 a pixel has variance 1 on it. `basis` is how real rings are resampled, see `RealPolarGrid`.
    """

    box: int
    n_angles: int
    real_rings: int
    fourier_rings: int
    real_spacing_px: float = 1.0
    basis: Basis = "radial"

    def __post_init__(self) -> None:
        if self.n_angles % 4 or self.n_angles < 8:
            raise ValueError(f"{self.n_angles} angles are not a multiple of 4, which exact quarter turns need")
        if self.real_rings * self.real_spacing_px > self.box // 2 - 3:
            raise ValueError(f"{self.real_rings} rings of {self.real_spacing_px} px reach beyond a {self.box}-px box")
        if not 0 <= self.fourier_rings < self.box // 2:
            raise ValueError(f"{self.fourier_rings} Fourier rings do not fit below Nyquist of a box of {self.box} px")
        if self.real_rings + self.fourier_rings < 1:
            raise ValueError("a polar frame needs rings, in real or in Fourier space")

    @property
    def count(self) -> int:
        """Rings R in all."""
        return self.real_rings + self.fourier_rings

    def analysis(self) -> Tensor:
        """Matrix (L², T·R) that takes flattened images to their rings, angle before ring."""
        return _matrices(self)[0]

    def synthesis(self) -> Tensor:
        """Matrix (T·R, L²) back to images: the sum of what the rings of both spaces hold.

        Of the rings of one space, from `analysis`, it makes the image anew, low-passed to what they can hold.
        """
        return _matrices(self)[1]

    def fourier_area(self) -> Tensor:
        """Weights (K,) with which Σ over Fourier rings and angles of squares is an image's Σ x², mean and rim aside."""
        return _matrices(self)[2]

    def fourier_transfer(self, transfer: Tensor) -> Tensor:
        """A real, centrosymmetric filter (n, L, L // 2 + 1), on the grid of rfft2, at the Fourier rings: (n, T, K).

        Bilinear between grid points: filters are smooth.
        """
        ky, kx = _ring_points(self.n_angles, self.fourier_rings, transfer.device)
        flipped = kx < 0
        ky, kx = torch.where(flipped, -ky, ky), kx.abs()
        y0, x0 = ky.floor(), kx.floor().clamp(max=self.box // 2 - 1)
        fy, fx = ky - y0, kx - x0
        top, bottom = (y0.long() % self.box, (y0.long() + 1) % self.box)
        left = x0.long()
        at = transfer[:, top, left] * (1 - fx) + transfer[:, top, left + 1] * fx
        below = transfer[:, bottom, left] * (1 - fx) + transfer[:, bottom, left + 1] * fx
        return at * (1 - fy) + below * fy


def _ring_points(n_angles: int, rings: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Fourier pixels (ky, kx) of the Fourier rings, (T, K) each."""
    theta = 2 * math.pi * torch.arange(n_angles, device=device)[:, None] / n_angles
    radius = torch.arange(1, rings + 1, device=device)
    return radius * torch.sin(theta), radius * torch.cos(theta)


def _coarse(fine: Tensor, n_angles: int) -> Tensor:
    """Signals (…, T′) low-passed below frequency T / 2 and sampled at T angles."""
    spectrum = torch.fft.rfft(fine, dim=-1)[..., : n_angles // 2 + 1]
    spectrum[..., -1] = 0  # a wave at Nyquist cannot be turned by one step
    coarse: Tensor = torch.fft.irfft(spectrum, n=n_angles, dim=-1) * (n_angles / fine.shape[-1])
    return coarse


@lru_cache(maxsize=4)
def _matrices(frame: PolarFrame) -> tuple[Tensor, Tensor, Tensor]:
    """Analysis, synthesis, and the area that each sample of a Fourier ring stands for."""
    forward, backward = [], []
    if frame.real_rings:
        there, back = _real_space(frame)
        forward.append(there)
        backward.append(back)
    if frame.fourier_rings:
        there, back = _fourier_space(frame)
        forward.append(there)
        backward.append(back)
    analysis, synthesis = torch.cat(forward, dim=1), torch.cat(backward, dim=1)  # (L², R, T)
    noise = analysis.square().sum(dim=0).mean(dim=-1).sqrt()[:, None]  # (R, 1)
    analysis, synthesis = analysis / noise, synthesis * noise
    pixels = frame.box**2
    flat = analysis.transpose(1, 2).reshape(pixels, -1).contiguous()
    rings = FourierRings(frame.box, tuple(range(1, frame.fourier_rings + 1)) or (1.0,), frame.n_angles)
    area = rings.area_weights()[: frame.fourier_rings] * noise[frame.real_rings :, 0].square()
    return flat, synthesis.transpose(1, 2).reshape(pixels, -1).T.contiguous(), area


def _real_space(frame: PolarFrame) -> tuple[Tensor, Tensor]:
    """Radial-basis weights pixel → real rings, and real rings → pixel, (L², R, T) each."""
    fine = OVERSAMPLING * frame.n_angles
    reach = frame.real_rings * frame.real_spacing_px
    grid = RealPolarGrid(frame.box, frame.real_rings, fine, reach, basis=frame.basis)
    pixels = torch.eye(frame.box**2).view(-1, frame.box, frame.box)
    there = _coarse(grid.to_polar(pixels), frame.n_angles)
    points = torch.eye(frame.real_rings * fine).view(-1, frame.real_rings, fine)
    back = grid.to_cartesian(points).flatten(1).T.reshape(-1, frame.real_rings, fine)
    # Interpolating the coarse signals to the fine grid is, up to the factor, the adjoint of coarsening.
    return there, _coarse(back, frame.n_angles) * (fine / frame.n_angles)


def _fourier_space(frame: PolarFrame) -> tuple[Tensor, Tensor]:
    """Hartley values on the Fourier rings, of pixels within the disk, and back: (L², K, T) each."""
    fine = OVERSAMPLING * frame.n_angles
    rings = FourierRings(frame.box, tuple(float(k) for k in range(1, frame.fourier_rings + 1)), fine)
    ky, kx = _ring_points(fine, frame.fourier_rings, torch.device("cpu"))
    axis = torch.arange(frame.box, dtype=torch.float64) - frame.box // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    phase = 2 * math.pi / frame.box * (y.reshape(-1, 1, 1) * ky.T.double() + x.reshape(-1, 1, 1) * kx.T.double())
    waves = (torch.cos(phase) - torch.sin(phase)).float()  # Hartley form of exp(−iφ), its own adjoint
    # The last row and column of an even box have no opposite: left out, quarter turns are exact.
    disk = (radius_grid(frame.box, 2).reshape(-1, 1, 1) < frame.box // 2).float()
    weights = rings.area_weights()[:, None]
    back = _coarse(waves * weights, frame.n_angles) * (fine / frame.n_angles)
    return _coarse(waves * disk, frame.n_angles), back * disk
