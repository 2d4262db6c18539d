"""Astigmatic transfer functions made radial, so that each group's depends on |k| alone.

With h² the mean of H² over the ring, y is multiplied by H / h: phases are flipped, the noise keeps its
variance on the average over each ring, and the signal's transfer becomes H² / h, whose mean over the ring is
h. For defocus U = V this is exact phase flipping.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import j0
from torch import Tensor

from clarice.core.particles import FloatArray, Optics, RowIndex
from clarice.physics.ctf import electron_wavelength_angstrom, rfft_frequency_grid
from clarice.physics.noisy_set import NoisySet

# Transfer functions told apart; more are quantised, by their defocus into so many bins at least.
MOST_GROUPS, LEAST_DEFOCUS_BINS = 96, 8


def mean_square_ctf(optics: Optics, frequencies_per_angstrom: FloatArray) -> FloatArray:
    """Mean of H² over each ring: (n, k) for frequencies (k,) in 1/Å.

    With χ = χ₀ + A cos 2θ, the mean of sin² χ is ½ (1 − J₀(2A) cos 2χ₀), A = ½ π λ (U − V) s².
    """
    squared = np.asarray(frequencies_per_angstrom, dtype=np.float64) ** 2
    wavelength = electron_wavelength_angstrom(optics.voltage_kv)[:, None]
    mean = ((optics.defocus_u_angstrom + optics.defocus_v_angstrom) / 2)[:, None]
    difference = (optics.defocus_u_angstrom - optics.defocus_v_angstrom)[:, None]
    spherical = (optics.spherical_aberration_mm * 1e7)[:, None]
    constant = np.deg2rad(optics.phase_shift_deg) + np.arcsin(optics.amplitude_contrast)
    phase = np.pi * wavelength * squared * (mean - spherical * wavelength**2 * squared / 2)
    ripple = j0(np.pi * wavelength * difference * squared) * np.cos(2 * (phase + constant[:, None]))
    envelope = np.exp(-optics.bfactor_angstrom2[:, None] * squared / 2)
    return np.asarray((1 - ripple) / 2 * envelope)


@dataclass(frozen=True)
class TransferGroups:
    """Particles grouped by radial transfer: `group` (n,) is the row of `optics` (g) and `noise_group` (g,).

    `optics` is None where the set has none.
    """

    group: NDArray[np.int64]
    optics: Optics | None
    noise_group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.noise_group)


def transfer_groups(noisy: NoisySet) -> TransferGroups:
    """Groups of equal optics, or, where there are more than about a hundred, of nearly equal ones."""
    optics = noisy.particles.optics
    if optics is None:
        kinds, group = np.unique(noisy.noise_group, return_inverse=True)
        return TransferGroups(group.reshape(-1), None, kinds)
    table = np.stack([getattr(optics, field.name) for field in fields(optics)], axis=1)
    names = [field.name for field in fields(optics)]
    table[:, names.index("defocus_angle_deg")] = 0  # a ring's mean does not depend on it
    group = _distinct(np.column_stack([table, noisy.noise_group]))
    if group.max() >= MOST_GROUPS:
        group = _quantised(table, names, noisy.noise_group)
    sizes = np.bincount(group)
    means = np.stack([np.bincount(group, weights=column) / sizes for column in table.T], axis=1)
    first = np.unique(group, return_index=True)[1]
    return TransferGroups(group, Optics(*means.T), noisy.noise_group[first])


def _distinct(table: FloatArray) -> NDArray[np.int64]:
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)


def _quantised(table: FloatArray, names: list[str], noise_group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bins of mean defocus, equally wide, within each combination of the other parameters, binned where these are many.

    At most about MOST_GROUPS for each noise group.
    """
    u, v = table[:, names.index("defocus_u_angstrom")], table[:, names.index("defocus_v_angstrom")]
    defocus = ["defocus_u_angstrom", "defocus_v_angstrom"]
    rest = [index for index, name in enumerate(names) if name not in defocus]
    kind, most = _distinct(table[:, rest]), MOST_GROUPS // LEAST_DEFOCUS_BINS
    if kind.max() >= most:
        varied = [index for index in rest if np.ptp(table[:, index]) > 0]
        bins = max(2, int(most ** (1 / len(varied))))
        kind = _distinct(np.column_stack([_binned(table[:, index], bins) for index in varied]))
    bins = max(LEAST_DEFOCUS_BINS, MOST_GROUPS // (int(kind.max()) + 1))
    return _distinct(np.column_stack([kind, noise_group, _binned((u + v) / 2, bins)]))


def _binned(values: FloatArray, bins: int) -> FloatArray:
    """The bin, of `bins` equally wide ones, that each value falls into."""
    low, high = float(values.min()), float(values.max())
    return np.asarray(np.floor((values - low) / max(high - low, 1e-9) * bins).clip(0, bins - 1))


def radial_transfer(noisy: NoisySet, groups: TransferGroups, radii: FloatArray) -> Tensor:
    """Transfer W h of each group at `radii` (k,), cycles per pixel: (g, k) float32."""
    shells = np.arange(noisy.box // 2 + 1) / noisy.box
    rows = [np.interp(radii, shells, noisy.whitening[index]) for index in groups.noise_group]
    transfer = np.stack(rows)
    if groups.optics is not None:
        pixel = noisy.particles.pixel_size_angstrom
        transfer *= np.sqrt(mean_square_ctf(groups.optics, radii / pixel))
    return torch.from_numpy(transfer).float()


def turned_radial(noisy: NoisySet, rows: RowIndex) -> Tensor:
    """Images of `rows` times H / h in Fourier space, (k, L, L)."""
    images = noisy.images(rows)
    if noisy.particles.optics is None:
        return images
    box = noisy.box
    fy, fx = rfft_frequency_grid(box)
    distances, place = torch.unique(torch.hypot(fx, fy), return_inverse=True)
    frequencies = distances.double().numpy() / noisy.particles.pixel_size_angstrom
    optics = noisy.particles.optics.subset(rows)
    mean_square = torch.from_numpy(mean_square_ctf(optics, frequencies)).float()
    ratio = noisy.ctf_of(rows) * torch.rsqrt(mean_square.clamp(min=1e-12))[:, place]
    turned: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * ratio, s=(box, box))
    return turned
