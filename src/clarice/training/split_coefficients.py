"""Fourier coefficients of images split at random into those a network is shown and those it is judged by.

White noise is independent from coefficient to coefficient. So whatever a network makes of some of them, its error on
the others, whose noise it never saw, is unbiased: |Y − T X̂|² is on average that of the signal plus the variance of the
noise. Were an image judged by what it was shown, copying the noise would look best.
"""

from __future__ import annotations

import torch
from torch import Tensor


def drawn_mask(box: int, count: int, share: float, generator: torch.Generator) -> Tensor:
    """A `share` of the coefficients of each of `count` images, on the grid of rfft2: (count, L, L // 2 + 1) bool.

    A real image's coefficients at k and −k are the same number: both are in the mask, or neither.
    """
    index = torch.arange(box * box).view(box, box)
    opposite = index.flip((0, 1)).roll((1, 1), (0, 1))
    drawn = torch.rand((count, box, box), generator=generator).flatten(1)
    alike = drawn[:, torch.minimum(index, opposite).flatten()].view(count, box, box)
    return (alike < share)[..., : box // 2 + 1]


def multiplicity(box: int, device: torch.device | None = None) -> Tensor:
    """How many coefficients of the whole transform each column of rfft2 stands for, (L // 2 + 1,)."""
    columns = torch.full((box // 2 + 1,), 2.0, device=device)
    columns[0] = 1
    if box % 2 == 0:
        columns[-1] = 1
    return columns


def unseen_error(images: Tensor, noisy: Tensor, transfer: Tensor, shown: Tensor) -> Tensor:
    """Mean of |Y − T X̂|² over the coefficients not in `shown`, in units of the noise's variance: (…,).

    `images` and `noisy` (…, L, L), `transfer` and `shown` (…, L, L // 2 + 1). 1 is the noise itself.
    """
    box = noisy.shape[-1]
    spectra = torch.fft.rfft2(noisy.float(), norm="ortho") - transfer * torch.fft.rfft2(images.float(), norm="ortho")
    weight = (~shown) * multiplicity(box, noisy.device)
    error: Tensor = (spectra.abs().square() * weight).sum(dim=(-2, -1)) / weight.sum(dim=(-2, -1))
    return error
