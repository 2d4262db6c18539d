"""The Fourier–Bessel basis of the disk inscribed in the box: steerable, orthonormal, fit for radial filters.

    ψ(ρ, θ) = N J_m(λ ρ / a) · {1, √2 cos mθ, √2 sin mθ},  N = 1 / (√π a |J_{m+1}(λ)|),  J_m(λ) = 0

White noise stays white in it. A coefficient is, up to a constant, the angular frequency m of the image's
Fourier transform on the ring of radius λ / 2πa (cycles per pixel), so a radial filter multiplies it by its
value there as long as what it spreads stays inside the disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import jn_zeros, jv
from torch import Tensor


@dataclass(frozen=True)
class AngularBlock:
    """Columns of angular frequency `m`, and the `radii` (p,) of its rings in cycles per pixel.

    Columns `start` to `start + p` hold the cosines; for m > 0 the next p hold the sines.
    """

    m: int
    start: int
    radii: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Radial functions, p."""
        return len(self.radii)

    @property
    def phases(self) -> int:
        """1 for m = 0, 2 (cosine and sine) above."""
        return 1 if self.m == 0 else 2

    def of(self, coefficients: Tensor) -> Tensor:
        """This block's part (n, phases, p) of coefficients (n, K), a view."""
        width = self.phases * self.count
        return coefficients[:, self.start : self.start + width].reshape(-1, self.phases, self.count)


@dataclass(frozen=True)
class FourierBessel:
    """Basis for images with edge `box`, up to the frequency `band_limit` (cycles per pixel).

    Mirror symmetry in x and in y splits pixels and functions into four classes that do not mix, so analysis
    and synthesis cost a quarter of the full matrix product. Made by `fourier_bessel`, which remembers it.
    """

    box: int
    blocks: tuple[AngularBlock, ...]
    columns: tuple[Tensor, ...]  # per class, the coefficients' columns (K_c,)
    matrices: tuple[Tensor, ...]  # per class, functions on the quadrant's pixels ((h + 1)², K_c)

    @property
    def count(self) -> int:
        """Coefficients an image, K."""
        return sum(len(columns) for columns in self.columns)

    @property
    def radii(self) -> NDArray[np.float64]:
        """Ring radius of every column (K,), cycles per pixel."""
        return np.concatenate([np.tile(block.radii, block.phases) for block in self.blocks])

    def analyse(self, images: Tensor) -> Tensor:
        """Inner products (n, K) of images (n, L, L) with the basis functions."""
        result = images.new_empty((len(images), self.count))
        parts = _folded(_symmetric(images))
        for part, columns, matrix in zip(parts, self.columns, self.matrices, strict=True):
            result[:, columns] = part.flatten(1) @ matrix
        return result

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Images (n, L, L) of coefficients (n, K), zero outside the disk: the adjoint of `analyse`."""
        half = math.isqrt(len(self.matrices[0]))
        parts = [
            (coefficients[:, columns] @ matrix.T).view(-1, half, half)
            for columns, matrix in zip(self.columns, self.matrices, strict=True)
        ]
        before = 1 if self.box % 2 == 0 else 0  # index 0 of an even box has no mirror image about L // 2
        return torch.nn.functional.pad(_unfolded(parts), (before, 0, before, 0))


def _symmetric(images: Tensor) -> Tensor:
    """The part of the images that is symmetric about L // 2."""
    return images[:, 1:, 1:] if images.shape[-1] % 2 == 0 else images


def _folded(images: Tensor) -> list[Tensor]:
    """Quadrants (n, h + 1, h + 1) of the parts even or odd in y and in x, summed by symmetry."""
    half = images.shape[-1] // 2

    def fold(values: Tensor, sign: int) -> Tensor:
        """Folds the last axis about its middle, which is counted once; odd functions vanish there."""
        positive = values[..., half:]
        mirrored = torch.nn.functional.pad(values[..., :half].flip(-1), (1, 0))
        return positive + sign * mirrored

    by_x = [fold(images, sign).transpose(1, 2) for sign in (1, -1)]
    return [fold(part, sign).transpose(1, 2) for sign in (1, -1) for part in by_x]


def _unfolded(parts: list[Tensor]) -> Tensor:
    """Images (n, 2h + 1, 2h + 1) from the four quadrants of `_folded`'s order."""

    def unfold(even: Tensor, odd: Tensor) -> Tensor:
        return torch.cat([(even - odd)[..., 1:].flip(-1), even + odd], dim=-1)

    rows = [unfold(parts[0], parts[1]), unfold(parts[2], parts[3])]  # even in y, odd in y
    return unfold(rows[0].transpose(1, 2), rows[1].transpose(1, 2)).transpose(1, 2)


@lru_cache(maxsize=4)
def fourier_bessel(box: int, band_limit: float) -> FourierBessel:
    """The basis for `box` up to `band_limit` cycles per pixel (at most 0.5); deterministic and remembered."""
    radius = box / 2
    half = (box - 1) // 2
    axis = np.arange(half + 1, dtype=np.float64)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    rho, theta = np.hypot(x, y).ravel(), np.arctan2(y, x).ravel()
    inside = rho < radius
    distances, place = np.unique(rho[inside], return_inverse=True)
    blocks: list[AngularBlock] = []
    columns: list[list[NDArray[np.int64]]] = [[], [], [], []]
    functions: list[list[NDArray[np.float32]]] = [[], [], [], []]
    empty = np.empty((len(rho), 0), dtype=np.float32)
    start = 0
    for m, zeros in enumerate(_zeros_below(2 * math.pi * radius * band_limit)):
        norm = 1 / (math.sqrt(math.pi) * radius * np.abs(jv(m + 1, zeros)))
        radial = (jv(m, distances[:, None] * zeros / radius) * norm)[place]
        block = AngularBlock(m, start, zeros / (2 * math.pi * radius))
        blocks.append(block)
        for phase, angular in enumerate((np.cos(m * theta), np.sin(m * theta))[: block.phases]):
            values = np.zeros((len(rho), len(zeros)), dtype=np.float32)
            values[inside] = radial * angular[inside, None] * math.sqrt(block.phases)
            # For even m the cosine is even in x and y, the sine odd in both; for odd m the cosine is odd in
            # x alone, the sine in y alone.
            parity = ((0, 3), (1, 2))[m % 2][phase]
            columns[parity].append(start + phase * len(zeros) + np.arange(len(zeros)))
            functions[parity].append(values)
        start += block.phases * len(zeros)
    return FourierBessel(
        box,
        tuple(blocks),
        tuple(torch.from_numpy(np.concatenate([*part, np.empty(0, dtype=np.int64)])) for part in columns),
        tuple(torch.from_numpy(np.concatenate([*part, empty], axis=1)) for part in functions),
    )


def _zeros_below(limit: float) -> list[NDArray[np.float64]]:
    """Positive zeros of J_m up to `limit`, for m = 0, 1, … while there are any."""
    found: list[NDArray[np.float64]] = []
    while True:
        m = len(found)
        # Consecutive zeros lie more than π apart for m ≥ 1 (a little less for m = 0), the first beyond m.
        zeros = jn_zeros(m, max(1, math.ceil((limit - m) / math.pi) + 2))
        zeros = zeros[zeros <= limit]
        if not len(zeros):
            return found
        found.append(zeros)
