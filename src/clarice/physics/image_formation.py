"""From projections to what the microscope shows of them: shifted, seen through the CTF, cropped.

Both are applied in a field twice the box, because the CTF spreads a particle beyond a small box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clarice.core.particles import Optics, Poses
from clarice.geometry.fourier import resize_centred
from clarice.physics.ctf import ctf_at, rfft_frequency_grid


def form_images(
    projections: Tensor, poses: Poses, optics: Optics, box: int, pixel_size_angstrom: float
) -> tuple[Tensor, Tensor]:
    """Projections (n, W, W) shifted, then as they are and with their CTF, cropped: two (n, box, box).

    The content moves to `x_view − shift`.
    """
    wide = projections.shape[-1]
    fy, fx = rfft_frequency_grid(wide)
    shifts = torch.as_tensor(poses.shifts_px, dtype=torch.float32)
    angle = 2 * torch.pi * (shifts[:, 0, None, None] * fx + shifts[:, 1, None, None] * fy)
    spectra = torch.fft.rfft2(projections) * torch.polar(torch.ones_like(angle), angle)
    clean = torch.fft.irfft2(spectra, s=(wide, wide))
    return resize_centred(clean, box, 2), through_ctf(spectra, optics, box, pixel_size_angstrom)


def through_ctf(spectra: Tensor, optics: Optics, box: int, pixel_size_angstrom: float) -> Tensor:
    """Images of spectra (n, W, W // 2 + 1) with their CTF, cropped: (n, box, box)."""
    wide = spectra.shape[-2]
    fy, fx = rfft_frequency_grid(wide)
    transfer = ctf_at(optics, fx / pixel_size_angstrom, fy / pixel_size_angstrom)
    return resize_centred(torch.fft.irfft2(spectra * transfer, s=(wide, wide)), box, 2)
