"""What a network on Cartesian images sees of an image and its CTF."""

from __future__ import annotations

import torch
from torch import Tensor

# Relative to the noise: how strong a signal the deconvolved input counts on.
DECONVOLUTION_FLOOR = 0.3


def filtered_channels(noisy: Tensor, transfer: Tensor | None) -> Tensor:
    """Images (n, L, L) and their transfer W H (n, L, L // 2 + 1) or None, as two channels (n, 2, L, L).

    The first is the matched filter W H y, which loses nothing; the second W H y / ((W H)² + c), nearer to the
    particle's look. Without a transfer they are the same up to a factor. Channels lie innermost in memory: a chain of
    convolutions keeps them so, and takes two thirds of the time.
    """
    if transfer is None:
        same = torch.stack([noisy, noisy / (1 + DECONVOLUTION_FLOOR)], dim=1)
        return same.contiguous(memory_format=torch.channels_last)
    box = noisy.shape[-1]
    spectra = torch.fft.rfft2(noisy) * transfer
    both = torch.stack([spectra, spectra / (transfer.square() + DECONVOLUTION_FLOOR)], dim=1)
    filtered: Tensor = torch.fft.irfft2(both, s=(box, box))
    return filtered.contiguous(memory_format=torch.channels_last)
