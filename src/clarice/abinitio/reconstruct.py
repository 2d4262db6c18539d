"""A map from weighted central slices: regularised least squares, solved exactly by conjugate gradients.

With samples y at frequencies q, weights D (accumulated H² / σ²) and back-projected data b = Σ H y / σ², the map is

    v = argmin  ½ Σ_q [ D_q |V(q)|² − 2 Re conj(b_q) V(q) ] + ½ Σ_k |V(k)|² / τ²(|k|)

inside a real-space support. The normal operator is a convolution, so one non-uniform transform makes its kernel on
the doubled grid and every iteration costs two FFTs. No gridding kernel has to be divided out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.core.parallel import ordered_map
from clarice.geometry.fourier import centred_fft3, centred_ifft3, radius_grid, resize_centred, shell_index, shell_mean
from clarice.geometry.nufft import spread_from
from clarice.metrics.half_maps import half_map_fsc
from clarice.metrics.shells import HALF_MAP_THRESHOLD

# The signal-to-noise every shell is granted while the halves' own FSC is not yet known.
WEAK_SNR = 9.0
# Binning once smooths a radial profile; what it smoothed away is binned again.
PROFILE_ITERATIONS = 4
# Solvent support: this much wider than the particle, with a soft edge of these voxels.
SUPPORT_MARGIN, SUPPORT_EDGE_VOXELS = 1.12, 2.0
# Coarser shells, cycles per particle diameter, tell too little of orientations (of symmetric particles, nothing) for a
# dip there to say that the halves disagree.
FIRST_CYCLES = 2.0


@dataclass(frozen=True)
class SliceSums:
    """What a map is solved from: the data term's gradient at zero and its convolution kernel, mergeable by adding.

    `data` (L, L, L): adjoint of the weighted samples. `kernel` (2L, 2L, 2L): adjoint of the weights.
    """

    data: Tensor
    kernel: Tensor

    @classmethod
    def of(cls, frequencies: Tensor, values: Tensor, weights: Tensor, box: int) -> SliceSums:
        """From half-space samples: `frequencies` (m, 3) cycles per voxel, complex `values` (m,), `weights` (m,).

        Each sample stands for its Hermitian partner too.
        """
        terms = ((weights.to(torch.complex64), 2 * box), (values, box))
        kernel, data = ordered_map(lambda term: 2 * spread_from(term[0], frequencies, term[1]).real, terms)
        return cls(data, kernel)

    def shell_weight(self) -> Tensor:
        """Mean weight of the samples in each Fourier shell of the map, (L // 2 + 1,).

        The weight of a frequency is the normal operator's Rayleigh quotient for its plane wave in the box, which
        windows the kernel by the overlap of the box with itself and so is never negative.
        """
        box = self.data.shape[-1]
        overlap = (1 - (torch.arange(2 * box) - box).abs() / box).to(self.kernel)
        windowed = self.kernel * overlap[:, None, None] * overlap[:, None] * overlap
        # Every second frequency of the doubled grid is all that the box has: the transform of the grid folded onto it.
        folded = windowed.view(2, box, 2, box, 2, box).sum(dim=(0, 2, 4))
        return shell_mean(torch.fft.fftshift(torch.fft.fftn(folded).real), 3).clamp_min(0)

    def __add__(self, other: SliceSums) -> SliceSums:
        return SliceSums(self.data + other.data, self.kernel + other.kernel)


def solve_map(
    sums: SliceSums,
    prior_power: Tensor,
    support: Tensor | None = None,
    start: Tensor | None = None,
    iterations: int = 12,
) -> Tensor:
    """The regularised map (L, L, L).

    `prior_power` (L // 2 + 1,) is the expected |V(k)|² of each Fourier shell; zero shells (and the corners beyond the
    last) stay empty. `support` (L, L, L) in [0, 1] multiplies the map; `start` warm-starts the iterations.
    """
    box = sums.data.shape[-1]
    support = torch.ones_like(sums.data) if support is None else support
    kernel = torch.fft.rfftn(torch.fft.ifftshift(sums.kernel)).real
    shells = shell_index(box, 3, sums.data.device)
    power = torch.cat([prior_power, prior_power.new_zeros(1)])[shells.clamp(max=box // 2 + 1)]
    amplitude = power.clamp_min(0).sqrt()

    def colour(white: Tensor) -> Tensor:
        """Prior square root: white noise to a map with the prior's spectrum, inside the support."""
        coloured: Tensor = support * centred_ifft3(amplitude * centred_fft3(white)).real / box**1.5
        return coloured

    def colour_adjoint(volume: Tensor) -> Tensor:
        white: Tensor = centred_ifft3(amplitude * centred_fft3(support * volume)).real / box**1.5
        return white

    def normal(white: Tensor) -> Tensor:
        padded = torch.fft.rfftn(resize_centred(colour(white), 2 * box, 3))
        convolved = torch.fft.irfftn(padded * kernel, s=(2 * box,) * 3)
        return white + colour_adjoint(resize_centred(convolved, box, 3))

    white = conjugate_gradient(normal, colour_adjoint(sums.data), _whiten(start, amplitude), iterations)
    return colour(white)


def _whiten(start: Tensor | None, amplitude: Tensor) -> Tensor | None:
    if start is None:
        return None
    spectrum = centred_fft3(start) / amplitude.clamp_min(1e-12)
    spectrum = torch.where(amplitude > 1e-6 * amplitude.max(), spectrum, torch.zeros_like(spectrum))
    white: Tensor = centred_ifft3(spectrum).real * start.shape[-1] ** 1.5
    return white


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor], right: Tensor, start: Tensor | None, iterations: int
) -> Tensor:
    """Solves `normal(x) = right` for a symmetric positive definite operator."""
    x = torch.zeros_like(right) if start is None else start
    residual = right - normal(x)
    direction = residual.clone()
    energy = residual.square().sum()
    target = 1e-8 * right.square().sum()
    for _ in range(iterations):
        if energy <= target:
            break
        image = normal(direction)
        step = energy / (direction * image).sum()
        x = x + step * direction
        residual = residual - step * image
        previous, energy = energy, residual.square().sum()
        direction = residual + (energy / previous) * direction
    return x


def spectral_prior(volume: Tensor) -> Tensor:
    """Mean |V(k)|² of each Fourier shell, (L // 2 + 1,)."""
    return shell_mean(centred_fft3(volume).abs().square(), 3)


def fsc_prior(fsc: Tensor, sums: Sequence[SliceSums]) -> Tensor:
    """τ² of each shell: signal-to-noise FSC / (1 − FSC) of a half map over the data's weight there.

    An FSC below 0.05 is taken for 0.05: noise may push a shell with signal to zero, and then it never came back.
    """
    agreement = fsc.clamp(0.05, 0.995)
    weight = torch.stack([part.shell_weight() for part in sums]).mean(dim=0)
    return agreement / (1 - agreement) * sums[0].data.numel() / weight.clamp_min(1e-3 * float(weight.max()))


def open_halves(sums: Sequence[SliceSums], seen: Tensor) -> Tensor:
    """Half maps (2, L, L, L) to judge by: no support cuts them, and a weak prior hardly bends them.

    A support would leak the strong low frequencies of both halves into their high ones, where they then agree
    without any data. `seen` (L // 2 + 1,) are the shells that were measured.
    """
    box = sums[0].data.shape[-1]
    weak = fsc_prior(torch.full((box // 2 + 1,), WEAK_SNR / (1 + WEAK_SNR)), sums)
    return torch.stack(list(ordered_map(lambda part: solve_map(part, torch.where(seen, weak, 0.0)), sums)))


def halves_agreement(halves: Tensor, support: Tensor, seed: int, last_shell: int | None = None) -> Tensor:
    """FSC (L // 2 + 1,) of two half maps within the support, freed from what the support itself adds (float32).

    It is zero beyond `last_shell`, the last one measured.
    """
    generator = torch.Generator().manual_seed(seed)
    curves = half_map_fsc(halves[0], halves[1], support.numpy(), generator, last_shell)
    return torch.from_numpy(np.nan_to_num(curves.corrected)).float()


def orientation_agreement(halves: Tensor, support: Tensor, seed: int, last_shell: int | None = None) -> Tensor:
    """`halves_agreement` of what the halves' spherical means leave over: the part that orientations determine.

    Images averaged over wrong views sum up to a spherical map, and two such maps agree, even those of pure noise:
    each of their shells holds one number, so its correlation is 1 or −1.
    """
    rest = torch.stack([half - spherical_mean(half) for half in halves])
    return halves_agreement(rest, support, seed, last_shell)


def agreed_radius(fsc: Tensor, box: int, diameter_px: float, threshold: float = HALF_MAP_THRESHOLD) -> int:
    """Last shell before an FSC (L // 2 + 1,) of the halves first falls below `threshold`, from FIRST_CYCLES on.

    At least the finer half of the shells is looked at, however small the particle is said to be.
    """
    first = min(max(1, round(FIRST_CYCLES * box / diameter_px)), len(fsc) // 2)
    below = (fsc[first:] < threshold).nonzero()
    return first - 1 + int(below[0, 0]) if len(below) else len(fsc) - 1


def spherical_mean(volume: Tensor) -> Tensor:
    """The mean of a map (L, L, L) over all rotations about index L // 2, linear in radius between half voxels."""
    radius = 2 * radius_grid(volume.shape[-1], 3, volume.device)
    inner = radius.long()
    outer_share = radius - inner
    bins = int(inner.max()) + 2

    def binned(values: Tensor) -> Tensor:
        flat = values.new_zeros(bins)
        flat.index_add_(0, inner.flatten(), (values * (1 - outer_share)).flatten())
        return flat.index_add_(0, (inner + 1).flatten(), (values * outer_share).flatten())

    counts = binned(torch.ones_like(volume)).clamp_min(1e-6)
    profile = torch.zeros(bins, dtype=volume.dtype, device=volume.device)
    mean = torch.zeros_like(volume)
    for _ in range(PROFILE_ITERATIONS):
        profile = profile + binned(volume - mean) / counts
        mean = profile[inner] * (1 - outer_share) + profile[inner + 1] * outer_share
    return mean


def spherical_support(box: int, diameter: float) -> Tensor:
    """Soft sphere (box,)*3 a little wider than `diameter`, both in voxels."""
    edge = SUPPORT_MARGIN * diameter / 2 + SUPPORT_EDGE_VOXELS
    return ((edge - radius_grid(box, 3)) / SUPPORT_EDGE_VOXELS).clamp(0, 1)
