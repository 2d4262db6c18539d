"""Centred Fourier transforms, Fourier resampling and frequency grids; the origin sits at L // 2 in both spaces."""

from __future__ import annotations

import torch
from torch import Tensor


def _axes(ndim: int) -> tuple[int, ...]:
    return tuple(range(-ndim, 0))


def _fft(x: Tensor, ndim: int) -> Tensor:
    axes = _axes(ndim)
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(x, dim=axes), dim=axes), dim=axes)


def _ifft(x: Tensor, ndim: int) -> Tensor:
    axes = _axes(ndim)
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(x, dim=axes), dim=axes), dim=axes)


def centred_fft2(images: Tensor) -> Tensor:
    """Fourier transform of (..., L, L) images, norm "backward"."""
    return _fft(images, 2)


def centred_ifft2(spectra: Tensor) -> Tensor:
    """Inverse of `centred_fft2`; complex, so take `.real` for images."""
    return _ifft(spectra, 2)


def centred_fft3(volumes: Tensor) -> Tensor:
    """Fourier transform of (..., L, L, L) volumes, norm "backward"."""
    return _fft(volumes, 3)


def centred_ifft3(spectra: Tensor) -> Tensor:
    """Inverse of `centred_fft3`; complex, so take `.real` for volumes."""
    return _ifft(spectra, 3)


def resize_centred(x: Tensor, box: int, ndim: int) -> Tensor:
    """Crops or zero-pads the last `ndim` axes to `box`, keeping index L // 2 at box // 2."""
    old = x.shape[-1]
    for axis in _axes(ndim):
        if box < old:
            x = x.narrow(axis, old // 2 - box // 2, box)
        elif box > old:
            before = box // 2 - old // 2
            shape = list(x.shape)
            shape[axis] = box
            padded = x.new_zeros(shape)
            padded.narrow(axis, before, old).copy_(x)
            x = padded
    return x


def fourier_resize(x: Tensor, box: int, ndim: int) -> Tensor:
    """Resamples real images (`ndim` 2) or volumes (3) to edge `box`, keeping grey values; the field of view stays."""
    old = x.shape[-1]
    if box == old:
        return x
    spectrum = resize_centred(_fft(x, ndim), box, ndim)
    return _ifft(spectrum, ndim).real * (box / old) ** ndim


def up_to_radius(x: Tensor, radius: float, ndim: int) -> Tensor:
    """Real images (`ndim` 2) or volumes (3) without what lies beyond `radius` Fourier pixels; a one-pixel edge."""
    gain = (radius + 0.5 - radius_grid(x.shape[-1], ndim, x.device)).clamp(0, 1)
    return _ifft(_fft(x, ndim) * gain, ndim).real


def frequency_grid(box: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Frequencies (fy, fx) in cycles per pixel, each (L, L), centred."""
    axis = (torch.arange(box, device=device, dtype=torch.float32) - box // 2) / box
    fy, fx = torch.meshgrid(axis, axis, indexing="ij")
    return fy, fx


def shell_index(box: int, ndim: int, device: torch.device | None = None) -> Tensor:
    """Rounded radius, in Fourier pixels, of every element of a centred (L,)*ndim grid; int64."""
    axis = torch.arange(box, device=device, dtype=torch.float32) - box // 2
    squares = axis**2
    total = squares
    for _ in range(ndim - 1):
        total = total[..., None] + squares
    return torch.round(torch.sqrt(total)).long()


def shells_to_nyquist(box: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """The shell of each coefficient of a centred transform (L, L), flat, and how many each holds, (L // 2 + 1,).

    The last shell holds everything from Nyquist on, corners included, so that no coefficient is left out.
    """
    shell = shell_index(box, 2, device).clamp(max=box // 2).flatten()
    return shell, torch.bincount(shell, minlength=box // 2 + 1)


def power_by_shell(images: Tensor) -> Tensor:
    """Mean power of a coefficient of the orthonormal transform of images (..., L, L): (..., L // 2 + 1).

    The last shell holds everything from Nyquist on.
    """
    box = images.shape[-1]
    power = torch.fft.fftshift(torch.fft.fft2(images.float(), norm="ortho"), dim=(-2, -1)).abs().square()
    shell, members = shells_to_nyquist(box, images.device)
    sums = power.new_zeros((*images.shape[:-2], box // 2 + 1))
    return sums.index_add(-1, shell, power.flatten(-2)) / members


def radius_grid(box: int, ndim: int = 2, device: torch.device | None = None) -> Tensor:
    """Distance in pixels of every element of a (L,)*ndim grid from index L // 2."""
    axis = torch.arange(box, device=device, dtype=torch.float32) - box // 2
    squares = axis**2
    total = squares
    for _ in range(ndim - 1):
        total = total[..., None] + squares
    return torch.sqrt(total)


def shell_mean(values: Tensor, ndim: int) -> Tensor:
    """Mean of `values` (..., L, ..) over each shell 0 .. L // 2 of its last `ndim` axes: (..., L // 2 + 1)."""
    box = values.shape[-1]
    index = shell_index(box, ndim, values.device).flatten()
    keep = index <= box // 2
    flat = values.flatten(start_dim=-ndim)[..., keep]
    index = index[keep]
    sums = flat.new_zeros((*flat.shape[:-1], box // 2 + 1)).index_add_(-1, index, flat)
    counts = torch.bincount(index, minlength=box // 2 + 1).to(sums.real.dtype)
    return sums / counts
