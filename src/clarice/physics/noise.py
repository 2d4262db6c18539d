"""Detector and background noise, and its radial spectrum as per-pixel variance, `P(k) = E|F(k)|² / L²`."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.geometry.fourier import centred_fft2, radius_grid, resize_centred, shell_mean
from clarice.physics.ctf import rfft_frequency_grid

Number = TypeVar("Number", float, Tensor)


def radial_to_rfft_grid(values: Tensor, box: int) -> Tensor:
    """Radial values (..., L // 2 + 1) on the grid of `torch.fft.rfft2`: (..., L, L // 2 + 1).

    Linear between shells; the corners beyond the last shell take its value.
    """
    fy, fx = rfft_frequency_grid(box, values.device)
    radius = (torch.hypot(fx, fy) * box).clamp(max=values.shape[-1] - 1)
    below = radius.floor().long().clamp(max=values.shape[-1] - 2)
    share = (radius - below).to(values.dtype)
    return values[..., below] * (1 - share) + values[..., below + 1] * share


def filter_radially(images: Tensor, transfer: Tensor) -> Tensor:
    """Images (n, L, L) multiplied in Fourier space by a radial transfer (L // 2 + 1,) or (n, L // 2 + 1)."""
    box = images.shape[-1]
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * radial_to_rfft_grid(transfer, box), s=(box, box))
    return filtered


def white_noise(count: int, box: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise of unit variance, (count, box, box) float32."""
    return torch.randn((count, box, box), generator=generator)


def coloured_noise(count: int, box: int, spectrum: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise (count, box, box) float32 of radial per-pixel variance `spectrum` (L // 2 + 1,)."""
    return filter_radially(white_noise(count, box, generator), torch.sqrt(spectrum))


def typical_spectrum(box: int, pixel_size_angstrom: float) -> Tensor:
    """A spectrum like that of ice, (L // 2 + 1,): low frequencies in excess, a detector that falls off.

    Scaled to a mean of 1 over the Fourier grid, so that a pixel's variance is 1.
    """
    shells = torch.arange(box // 2 + 1, dtype=torch.float32)
    frequency = shells / (box * pixel_size_angstrom)  # 1/Å
    detector = torch.sinc(shells / box) ** 2
    spectrum = (1 + 4 * torch.exp(-((frequency * 30) ** 2))) * detector
    return spectrum / _mean_over_grid(spectrum, box)


def _mean_over_grid(spectrum: Tensor, box: int) -> Tensor:
    """Mean of a radial spectrum over the whole Fourier grid: the variance of a pixel."""
    grid = radial_to_rfft_grid(spectrum, box)
    weight = torch.full((box // 2 + 1,), 2.0)
    weight[0] = 1
    if box % 2 == 0:
        weight[-1] = 1
    return (grid * weight).sum() / box**2


def poisson_scale(square: Number, mean: Number, snr: Number) -> tuple[Number, Number]:
    """What to multiply signals by before their electrons are counted, and the noise's deviation then.

    `square` and `mean` are a signal's mean square and mean, or those of several. Counts of mean 1 + c·signal have that
    variance, so SNR = c² · square / (1 + c · mean).
    """
    scale = (snr * mean + ((snr * mean) ** 2 + 4 * snr * square) ** 0.5) / (2 * square)
    return scale, (1 + scale * mean) ** 0.5


def poisson_image(signal: Tensor, generator: torch.Generator) -> Tensor:
    """Counts less one, float32, of a detector that sees 1 + signal electrons a pixel on average.

    A signal below −1 cannot be seen by a counter and is taken as −1. The variance is 1 + signal.
    """
    return torch.poisson((1 + signal).clamp(min=0), generator=generator) - 1


def radial_noise_spectrum(images: Tensor, radius_px: float) -> Tensor:
    """Per-pixel noise variance by shell, (L // 2 + 1,), from the pixels of (n, L, L) outside a disk.

    The autocovariance over pairs of outside pixels, divided by the number of pairs, is unbiased whatever
    the region's shape; tapered to a third of the box, its transform is the spectrum. Each image's mean over
    the region is removed, so shell 0 takes the value of shell 1.

    Raises UsageError when the disk leaves no corners.
    """
    box = images.shape[-1]
    outside = (radius_grid(box, 2, images.device) > radius_px).to(images.dtype)
    pixels = outside.sum()
    if pixels < box:
        raise UsageError(f"a disk of radius {radius_px:g} px leaves no corners in a box of {box} px: make it smaller")
    size = 2 * box
    pairs = torch.fft.irfft2(torch.fft.rfft2(outside, s=(size, size)).abs() ** 2, s=(size, size))
    power = torch.zeros((size, size // 2 + 1), device=images.device)
    for start in range(0, len(images), 256):
        part = images[start : start + 256]
        mean = (part * outside).sum(dim=(-2, -1), keepdim=True) / pixels
        power += (torch.fft.rfft2((part - mean) * outside, s=(size, size)).abs() ** 2).sum(dim=0)
    covariance = torch.fft.irfft2(power / len(images), s=(size, size)) / pairs.clamp(min=0.5)
    covariance = resize_centred(torch.fft.fftshift(covariance), box, 2)
    reach = box / 3
    taper = 0.5 + 0.5 * torch.cos(torch.pi * (radius_grid(box, 2, images.device) / reach).clamp(max=1))
    # Taking out the mean took the mean's own variance, S(0) / pixels, from every lag: it is put back.
    covariance = covariance + (covariance * taper).sum() / (pixels - taper.sum()).clamp(min=box)
    spectrum = shell_mean(centred_fft2(covariance * taper).real, 2)
    spectrum[0] = spectrum[1]
    # The estimate may dip below zero where the spectrum is nearly empty; variance may not.
    return spectrum.clamp(min=float(spectrum.max()) * 1e-4)


def whitening_filter(spectrum: Tensor) -> Tensor:
    """Radial transfer (L // 2 + 1,) that gives noise of this spectrum unit variance everywhere."""
    return torch.rsqrt(spectrum)


def whiten(images: Tensor, spectrum: Tensor) -> Tensor:
    """Images (n, L, L) filtered so that noise of `spectrum` (L // 2 + 1,) turns white, of unit variance."""
    return filter_radially(images, whitening_filter(spectrum))
