"""What denoising networks are trained to lower: the relative error of the images, and how wrongly they foretell it."""

from __future__ import annotations

import torch
from torch import Tensor

from clarice.geometry.fourier import power_by_shell, radius_grid


def disk(box: int, device: torch.device) -> Tensor:
    """1 within box / 2 pixels of index box // 2, else 0: where errors count, (box, box)."""
    return (radius_grid(box, 2, device) <= box / 2).float()


def relative_error(images: Tensor, clean: Tensor, power: Tensor) -> Tensor:
    """Mean over images of Σ‖x̂ − x‖² inside the disk, over `power` (B,), for images (B, N, L, L): (B,)."""
    squared = (images - clean).square() * disk(images.shape[-1], images.device)
    return squared.sum(dim=(-2, -1)).mean(dim=1) / power


def seen_error(images: Tensor, clean: Tensor, transfer: Tensor, snr: Tensor) -> Tensor:
    """Mean over images of Σ|W H (x̂ − x)|² over what the detector saw, Σ|W H x|² = `snr` (B,) · L²: (B,).

    Against the CTF-free projection nearly all power, and so nearly all of the relative error, lies at the lowest
    frequencies, which H almost removes; this part counts the others as they count in the data.
    """
    box = images.shape[-1]
    spectra = torch.fft.rfft2((images - clean).float(), norm="ortho") * transfer
    seen = torch.fft.irfft2(spectra, s=(box, box), norm="ortho").square().sum(dim=(-2, -1))
    per_set: Tensor = seen.mean(dim=1) / (snr * box**2)
    return per_set


def shell_error(images: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error per coefficient of the orthonormal transform, by Fourier shell: (B, N, L // 2 + 1).

    The last shell holds everything from Nyquist on.
    """
    return power_by_shell(images - clean)


def foretelling_loss(log_error: Tensor, actual: Tensor) -> Tensor:
    """Mean of e² / v + log v over images and shells: least where v is the expected value of e² (exp of `log_error`)."""
    return (actual.clamp_min(1e-8) * torch.exp(-log_error) + log_error).mean()


def sketch_error(sketch: Tensor, clean_rings: Tensor, ring_area: Tensor, power: Tensor) -> Tensor:
    """`relative_error` on the Fourier rings (B, N, T, K) alone, by which blocks of attention go: (B,)."""
    squared = (sketch - clean_rings).square().sum(dim=2) @ ring_area
    per_set: Tensor = squared.mean(dim=1) / power
    return per_set
