"""What the images' spectra say about the CTF: untouched, phase-flipped, or multiplied; and the low-frequency
sign.

Multiplication takes the noise along, so its power vanishes at the CTF's zeros. Flipping leaves the power
alone, but undoes the CTF's spreading of each particle: flipping raw images moves power into the middle of the
box, flipping flipped ones moves it out again, and noise alone stays where it is on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import Optics, ParticleSet, RowIndex
from clarice.core.progress import Progress
from clarice.geometry.fourier import shell_index
from clarice.physics.ctf import ctf
from clarice.pipeline.preflight.flipping import CtfScale, middle_of, power_moved_inwards, scale_of_the_ctf, spectra_of
from clarice.pipeline.preflight.pixels import chunk_rows, z_scores

# |H|² below the first counts as a zero of the CTF, above the second as a peak.
_ZERO, _PEAK = 0.05, 0.5
_MIN_PIXELS = 200


@dataclass(frozen=True)
class TransferFindings:
    """`zero_to_peak_power`, `flip_z` as `CtfEvidence` explains them (None where the data cannot tell);
    `low_frequency_z` (k,) is the z-score of each of the lowest Fourier rings' amplitude along the CTF.
    `other_scale`, where the stated CTF is not that of raw images but another one is: see `CtfScale`.
    """

    zero_to_peak_power: float | None
    flip_z: float | None
    low_frequency_z: NDArray[np.float64]
    other_scale: CtfScale | None = None


def study_transfer(particles: ParticleSet, optics: Optics, rows: RowIndex, progress: Progress) -> TransferFindings:
    """Compares the spectra of `rows` with their CTF; images must be finite and not constant."""
    box = particles.box
    rings = shell_index(box, 2).clamp(max=box // 2 + 1)
    power = _ring_power(particles, rows, rings, progress)
    whiten = torch.where(power > 0, power.clamp(min=1e-30).rsqrt(), 0.0)[rings]
    whiten[(rings < 2) | (rings > box // 2)] = 0
    weight = middle_of(box)
    sums = torch.zeros((4, box // 2 + 2), dtype=torch.float64)
    moved: list[NDArray[np.float64]] = []
    low: list[NDArray[np.float64]] = []
    step = max(1, chunk_rows(box) // 4)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        spectra = spectra_of(particles, part)
        transfer = ctf(optics.subset(part), box, particles.pixel_size_angstrom)
        _add_zero_and_peak_power(sums, spectra, transfer, rings)
        moved.append(power_moved_inwards(spectra * whiten, transfer, weight))
        low.append(_low_ring_amplitudes(spectra, transfer, rings))
        progress("comparing spectra with the CTF", min(start + step, len(rows)), len(rows))
    crosses_zero = bool((sums[1, 2:-1] > 0).any())
    flip_z = float(z_scores(np.concatenate(moved)[:, None])[0]) if crosses_zero and len(rows) >= 2 else None
    other = scale_of_the_ctf(particles, optics, rows, whiten, flip_z, progress) if len(rows) >= 2 else None
    return TransferFindings(_power_ratio(sums, box), flip_z, z_scores(np.concatenate(low)), other)


def _ring_sums(values: Tensor, rings: Tensor) -> Tensor:
    """Sum of (n, L, L) over images and each ring, float64."""
    sums = torch.zeros(int(rings.shape[0]) // 2 + 2, dtype=torch.float64)
    return sums.index_add_(0, rings.flatten(), values.sum(dim=0, dtype=torch.float64).flatten())


def _ring_power(particles: ParticleSet, rows: RowIndex, rings: Tensor, progress: Progress) -> Tensor:
    """Mean power of each ring over at most 256 of the rows, float32."""
    chosen = rows[:: max(1, len(rows) // 256)]
    sums = torch.zeros(particles.box // 2 + 2, dtype=torch.float64)
    step = chunk_rows(particles.box)
    for start in range(0, len(chosen), step):
        spectra = spectra_of(particles, chosen[start : start + step])
        sums += _ring_sums(spectra.abs() ** 2, rings)
        progress("measuring the spectrum", min(start + step, len(chosen)), len(chosen))
    counts = torch.bincount(rings.flatten(), minlength=len(sums)).clamp(min=1) * len(chosen)
    return (sums / counts).float()


def _add_zero_and_peak_power(sums: Tensor, spectra: Tensor, transfer: Tensor, rings: Tensor) -> None:
    """Adds, by ring: power at zeros, pixels at zeros, power at peaks, pixels at peaks."""
    power = spectra.abs() ** 2
    squared = transfer**2
    zeros, peaks = (squared < _ZERO).float(), (squared > _PEAK).float()
    for place, values in enumerate((power * zeros, zeros, power * peaks, peaks)):
        sums[place] += _ring_sums(values, rings)


def _power_ratio(sums: Tensor, box: int) -> float | None:
    """Power at zeros over power at peaks, in the upper half of the frequencies, where noise rules."""
    upper = slice(max(2, box // 4), box // 2 + 1)
    zero_power, zero_count, peak_power, peak_count = (part[upper] for part in sums)
    known = (zero_count >= _MIN_PIXELS) & (peak_count >= _MIN_PIXELS) & (peak_power > 0)
    if not bool(known.any()):
        return None
    ratio = (zero_power / zero_count.clamp(min=1)) / (peak_power / peak_count.clamp(min=1)).clamp(min=1e-300)
    share = torch.minimum(zero_count, peak_count) * known
    return float((ratio * share)[known].sum() / share[known].sum())


def _low_ring_amplitudes(spectra: Tensor, transfer: Tensor, rings: Tensor) -> NDArray[np.float64]:
    """Σ Re F · H over each of the Fourier rings 1 … 4, (n, 4): positive for a bright compact particle."""
    along = spectra.real * transfer
    sums = [along[:, rings == ring].sum(dim=1, dtype=torch.float64) for ring in (1, 2, 3, 4)]
    return np.asarray(torch.stack(sums, dim=1).numpy())
