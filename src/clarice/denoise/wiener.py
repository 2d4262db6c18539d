"""The radial Wiener filter: each Fourier component alone, by the signal power the stack itself shows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clarice.core.batches import in_batches
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import DenoisedRows, as_array, denoiser
from clarice.geometry.fourier import shell_index
from clarice.physics.noise import radial_to_rfft_grid
from clarice.physics.noisy_set import NoisySet

# A radial spectrum is known to a fraction of a percent from this many images.
SPECTRUM_SAMPLE = 4096


def signal_spectrum(noisy: NoisySet, *, progress: Progress = silent) -> Tensor:
    """Power of x by shell, E|X(k)|² / L², (L // 2 + 1,) float64, from the images' power less their noise.

    Least squares over images and the components of a shell: S = Σ (|Y|² / L² − 1) T² / Σ T⁴ with T = W H,
    then multiplied by 1 − (standard error / S)², which leaves nothing where the estimate drowns in its error.
    """
    box = noisy.box
    index = torch.fft.ifftshift(shell_index(box, 2))[:, : box // 2 + 1].flatten()
    index = index.clamp(max=box // 2 + 1)  # the corners fall into a bin of their own, dropped below
    rows = noisy.sample_rows(SPECTRUM_SAMPLE)
    excess = torch.zeros(box // 2 + 2, dtype=torch.float64)
    weight = torch.zeros_like(excess)

    def add(start: int, stop: int) -> int:
        part = rows[start:stop]
        power = torch.fft.rfft2(noisy.images(part)).abs().square() / box**2
        squared = noisy.transfer_of(part).square()
        excess.index_add_(0, index, ((power - 1) * squared).double().sum(dim=0).flatten())
        weight.index_add_(0, index, squared.square().double().sum(dim=0).flatten())
        return stop

    for done in in_batches(len(rows), noisy.rows_per_chunk, add):
        progress("signal spectrum", done, len(rows))
    evidence = weight[:-1].clamp(min=1e-12)
    estimate = (excess[:-1] / evidence).clamp(min=0)
    # |Y|² / L² of noise alone has variance 1, so the estimate's is 1 / evidence.
    trust = (1 - 1 / (evidence * estimate.square()).clamp(min=1e-30)).clamp(min=0)
    return estimate * trust


def wiener_filtered(noisy: NoisySet, rows: RowIndex, spectrum: Tensor) -> Tensor:
    """x̂ = T S / (T² S + 1) y of `rows`, (k, L, L), with T = W H and S the radial `spectrum` (L // 2 + 1,)."""
    transfer = noisy.transfer_of(rows)
    power = radial_to_rfft_grid(spectrum, noisy.box).float()
    gain = transfer * power / (transfer.square() * power + 1)
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(noisy.images(rows)) * gain, s=(noisy.box, noisy.box))
    return filtered


@denoiser("wiener", "radial Wiener filter with the CTF: fast, and blind to what the particles have in common")
def wiener(noisy: NoisySet, *, progress: Progress = silent) -> DenoisedRows:
    """Wiener-filtered images of the set, streamed in row order."""
    spectrum = signal_spectrum(noisy, progress=progress)

    def work(start: int, stop: int) -> tuple[RowIndex, Tensor]:
        rows = np.arange(start, stop)
        return rows, wiener_filtered(noisy, rows, spectrum)

    for rows, images in in_batches(len(noisy), noisy.rows_per_chunk, work):
        progress("denoising", int(rows[-1]) + 1, len(noisy))
        yield rows, as_array(images)
