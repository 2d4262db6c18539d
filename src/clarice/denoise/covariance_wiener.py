"""The covariance Wiener filter: each image is weighed by what varies together in the whole stack.

Bhamre, Zhang & Singer (2016); Marshall et al. (2022). In-plane angles are uniform, so the covariance of the
clean images is block diagonal over the angular frequency m in a steerable basis, and, since a view and its
mirror image are equally likely, real. In the Fourier–Bessel basis the noise is white and a radial transfer T
diagonal, so the covariance solves its least-squares equations element by element.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.core.batches import in_batches
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.fourier_bessel import AngularBlock, FourierBessel, fourier_bessel
from clarice.denoise.radial_transfer import TransferGroups, radial_transfer, transfer_groups, turned_radial
from clarice.denoise.registry import DenoisedRows, as_array, denoiser
from clarice.denoise.wiener import signal_spectrum
from clarice.physics.noisy_set import NoisySet

# Shells whose signal, as the detector sees it, is below this share of the noise are left out.
SMALLEST_SNR = 0.02
# Coefficients up to this many floats are kept between the two passes; above, they are computed twice.
CACHED_FLOATS = 2**26


@dataclass(frozen=True)
class Coefficients:
    """Fourier–Bessel coefficients of a set's images, and each group's transfer at every column (g, K)."""

    noisy: NoisySet
    basis: FourierBessel
    groups: TransferGroups
    transfer: Tensor
    spectrum: Tensor  # signal power at every column (K,)
    noise: Tensor  # noise variance to be reckoned with at every column (K,)
    cache: dict[int, tuple[RowIndex, Tensor]]

    def chunks(self, label: str, progress: Progress) -> Iterator[tuple[RowIndex, Tensor]]:
        """Row numbers and coefficients (k, K), in row order."""
        if self.cache:
            yield from self.cache.values()
            return
        keep = len(self.noisy) * self.basis.count <= CACHED_FLOATS

        def work(start: int, stop: int) -> tuple[RowIndex, Tensor]:
            rows = np.arange(start, stop)
            return rows, self.basis.analyse(turned_radial(self.noisy, rows))

        for rows, values in in_batches(len(self.noisy), self.noisy.rows_per_chunk, work):
            if keep:
                self.cache[int(rows[0])] = (rows, values)
            progress(label, int(rows[-1]) + 1, len(self.noisy))
            yield rows, values

    def group_of(self, rows: RowIndex) -> Tensor:
        """Transfer group of `rows`."""
        return torch.from_numpy(self.groups.group[rows])


@dataclass
class BlockMoments:
    """Sums over images (and both phases) that give one block's mean and covariance, float64.

    With z the coefficients, t the transfer and d = t / (t² S + 1): `second` Σ dz dzᵀ, `mixed` Σ dz dtᵀ,
    `weight` Σ dt dtᵀ, `noise` N Σ d², `noise_square` Σ d⁴, `first` Σ dz.
    """

    second: Tensor
    mixed: Tensor
    weight: Tensor
    noise: Tensor
    noise_square: Tensor
    first: Tensor
    count: int = 0

    @classmethod
    def empty(cls, size: int) -> BlockMoments:
        square, line = torch.zeros((size, size), dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        return cls(square, square.clone(), square.clone(), line, line.clone(), line.clone())

    def add(self, values: Tensor, transfer: Tensor, spectrum: Tensor, noise: Tensor) -> None:
        """Adds images: `values` (k, phases, p), `transfer` (k, p), with the power of signal and noise (p,)."""
        phases = values.shape[1]
        damped = transfer / (transfer.square() * spectrum + 1)
        weighted = (values * damped[:, None]).flatten(0, 1)
        seen = damped * transfer
        self.second += (weighted.T @ weighted).double()
        self.weight += phases * (seen.T @ seen).double()
        self.noise += phases * noise * damped.square().double().sum(dim=0)
        self.noise_square += phases * damped.double().pow(4).sum(dim=0)
        if phases == 1:
            self.mixed += (weighted.T @ seen).double()
            self.first += weighted.double().sum(dim=0)
        self.count += len(weighted)


def estimate_moments(data: Coefficients, progress: Progress) -> list[BlockMoments]:
    """One pass over the images: the sums of every block."""
    moments = [BlockMoments.empty(block.count) for block in data.basis.blocks]
    for rows, values in data.chunks("covariance", progress):
        group = data.group_of(rows)
        for block, sums in zip(data.basis.blocks, moments, strict=True):
            part = slice(block.start, block.start + block.count)
            sums.add(block.of(values), data.transfer[:, part][group], data.spectrum[part], data.noise[part])
    return moments


def block_mean(block: AngularBlock, moments: BlockMoments) -> Tensor:
    """Mean coefficients (p,): zero for m > 0, where uniform in-plane angles leave none."""
    if block.m > 0:
        return torch.zeros(block.count, dtype=torch.float64)
    return moments.mixed.diagonal() / moments.weight.diagonal().clamp(min=1e-12)


def block_covariance(moments: BlockMoments, mean: Tensor) -> Tensor:
    """Covariance (p, p) of the clean coefficients, positive semidefinite.

    What stands out of the noise is kept as eigenvectors; the power that remains on the diagonal, which no
    eigenvector explains, stays as variance of each coefficient by itself.
    """
    cross = moments.mixed * mean
    centred = moments.second - cross - cross.T + mean[:, None] * moments.weight * mean
    centred = centred - torch.diag(moments.noise)
    covariance = centred / moments.weight.clamp(min=1e-12)
    # Noise alone would give entry (k, k) the standard deviation level(k) √(2 / count).
    level = (moments.count * moments.noise_square).sqrt() / moments.weight.diagonal().clamp(min=1e-12)
    scale = level.clamp(min=1e-12).rsqrt()
    common = shrunk(covariance * scale[:, None] * scale, moments.count) / (scale[:, None] * scale)
    return common + torch.diag(_smoothed(covariance.diagonal() - common.diagonal()).clamp(min=0))


def _smoothed(values: Tensor) -> Tensor:
    """Running mean over five neighbours, fewer at the ends."""
    padded = torch.nn.functional.avg_pool1d(values[None], 5, stride=1, padding=2, count_include_pad=False)
    return padded[0]


def shrunk(covariance: Tensor, count: int) -> Tensor:
    """Spiked-covariance shrinkage where noise is white with variance 1 (Donoho, Gavish & Johnstone 2018).

    `covariance` (p, p) is a sample covariance of `count` samples less the identity. Eigenvalues that noise
    alone could give, λ ≤ (1 + √γ)² with γ = p / count, are removed; the others are optimal in Frobenius norm.
    """
    gamma = len(covariance) / count
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    raised = values + 1
    kept = raised > (1 + gamma**0.5) ** 2
    bulk = raised + 1 - gamma
    spike = (bulk + (bulk.square() - 4 * raised).clamp(min=0).sqrt()) / 2
    excess = (spike - 1).clamp(min=1e-12)
    cosine = ((1 - gamma / excess.square()) / (1 + gamma / excess)).clamp(min=0)
    shrunken = torch.where(kept, excess * cosine, torch.zeros_like(values))
    result: Tensor = (vectors * shrunken) @ vectors.T
    return result


def filters(covariance: Tensor, transfer: Tensor) -> Tensor:
    """C T (T C T + 1)⁻¹ of every group, (g, p, p), for `covariance` (p, p) and `transfer` (g, p)."""
    inner = transfer[:, :, None] * covariance * transfer[:, None, :]
    inner.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky(inner)
    solved: Tensor = torch.cholesky_solve(transfer[:, :, None] * covariance, factor)
    return solved.transpose(1, 2)


def band_limit(noisy: NoisySet, spectrum: Tensor) -> float:
    """Frequency, cycles per pixel, of the last shell with signal worth the work."""
    squared = noisy.transfer_of(noisy.sample_rows(64)).square().mean(dim=0)[0]
    seen = spectrum * squared.double()
    worth = torch.nonzero(seen > SMALLEST_SNR).flatten()
    last = int(worth[-1]) + 1 if len(worth) else 2
    return min(max(last, 2) / noisy.box, 0.5)


def expand(noisy: NoisySet, progress: Progress) -> Coefficients:
    """The set in the Fourier–Bessel basis, images yet to be read."""
    spectrum = signal_spectrum(noisy, progress=progress)
    basis = fourier_bessel(noisy.box, band_limit(noisy, spectrum))
    groups = transfer_groups(noisy)
    radii = basis.radii
    shells = np.arange(len(spectrum))
    power = torch.from_numpy(np.interp(radii * noisy.box, shells, spectrum.numpy())).float()
    noise = torch.from_numpy(1 + np.interp(radii * noisy.box, shells, noisy.noise_error))
    transfer = radial_transfer(noisy, groups, radii)
    return Coefficients(noisy, basis, groups, transfer, power, noise, {})


@denoiser("covariance-wiener", "Wiener filter with the covariance of all views: the best linear estimate")
def covariance_wiener(noisy: NoisySet, *, progress: Progress = silent) -> DenoisedRows:
    """Images x̂ = μ + C T (T C T + 1)⁻¹ (z − T μ) of the set inside the disk, streamed in row order."""
    data = expand(noisy, progress)
    moments = estimate_moments(data, progress)
    means = [block_mean(block, sums) for block, sums in zip(data.basis.blocks, moments, strict=True)]
    operators: list[Tensor] = []
    for block, sums, mean in zip(data.basis.blocks, moments, means, strict=True):
        part = slice(block.start, block.start + block.count)
        covariance = block_covariance(sums, mean)
        operators.append(filters(covariance.float(), data.transfer[:, part]))
    for rows, values in data.chunks("denoising", progress):
        group = data.group_of(rows)
        estimate = torch.empty_like(values)
        for block, operator, mean in zip(data.basis.blocks, operators, means, strict=True):
            part = slice(block.start, block.start + block.count)
            centre = mean.float()
            residual = block.of(values) - (data.transfer[:, part][group] * centre)[:, None]
            block.of(estimate).copy_(residual @ operator[group].transpose(1, 2) + centre)
        yield rows, as_array(data.basis.synthesise(estimate))
