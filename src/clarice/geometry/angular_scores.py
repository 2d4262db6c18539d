"""Scores of signals with references over all relative angles, for posteriors that are summed up and never kept.

float32 goes by products with small matrices of cosines and sines. The angles φ and −φ have the same cosines and
opposite sines, so each part is worked out once for both: half the arithmetic of a whole Fourier matrix, at the full
speed of matrix products, where a Fourier transform over the first axis reaches a third of it. bfloat16 goes by the
whole matrix, whose products sum up in float32 with the offset among them. None of it is differentiable, and float32
products are as exact as torch's setting for them: TF32, if that is asked for on an accelerator, is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from clarice.core.scratch import scratch
from clarice.geometry.angular import AngularMass, analysis_matrix, conjugate_products, fourier_matrix


@dataclass(frozen=True)
class Factors:
    """References as right factors of packed spectra: (M, 2C, j) each, for the real and imaginary part of a · conj b."""

    real: Tensor
    imaginary: Tensor
    n_angles: int

    @classmethod
    def of(cls, spectrum: Tensor, n_angles: int) -> Factors:
        """From the packed spectrum (M, j, 2C) of the references."""
        real, imaginary = conjugate_products(spectrum)
        return cls(real.contiguous(), imaginary, n_angles)

    def scores(self, a: Tensor) -> FoldedScores | RoundedScores:
        """Of signals with the packed spectrum `a` (M, n, 2C), of the factors' dtype."""
        return (FoldedScores if a.dtype == torch.float32 else RoundedScores).of(a, self)


@dataclass(frozen=True)
class RoundedScores:
    """Scores in bfloat16, kept as cross-spectra and worked out under each offset anew.

    The offset enters as two more rows of the Fourier product: scores near zero, those that decide a softmax once its
    peak is subtracted, come out with full precision.
    """

    products: Tensor
    n_angles: int

    @classmethod
    def of(cls, a: Tensor, factors: Factors) -> RoundedScores:
        """Of signals `a` (M, n, 2C) with references."""
        count = a.shape[0]
        products = a.new_empty((2 * count + 2, a.shape[1], factors.real.shape[-1]))
        torch.bmm(a, factors.real, out=products[:count])
        torch.bmm(a, factors.imaginary, out=products[count : 2 * count])
        return cls(products, factors.n_angles)

    @property
    def angles(self) -> Tensor:
        """Angle index of each place along the first axis of the scores."""
        return torch.arange(self.n_angles, device=self.products.device)

    def plus(self, offset: Tensor) -> Tensor:
        """Scores plus `offset` (n, j) float32: (T, n, j) in bfloat16."""
        coarse = offset.to(self.products.dtype)
        self.products[-2] = coarse
        self.products[-1] = (offset - coarse.float()).to(coarse.dtype)
        matrix = _offset_matrix(self.n_angles, self.products.dtype, self.products.device)
        return (matrix @ self.products.flatten(1)).view(self.n_angles, *offset.shape)

    def highest(self) -> Tensor:
        """The highest score over the angles, (n, j)."""
        return self.plus(torch.zeros(self.products.shape[1:], device=self.products.device)).amax(dim=0).float()

    def mass(self, weights: Tensor) -> AngularMass:
        """The angular spectrum of weights (T, n, j)."""
        return AngularMass.of(weights)


@lru_cache(maxsize=32)
def _offset_matrix(n_angles: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The Fourier matrix with two columns of ones for the offset's coarse and fine part."""
    matrix = fourier_matrix(n_angles, dtype, device)
    return torch.cat([matrix, matrix.new_ones((n_angles, 2))], dim=1)


@dataclass(frozen=True)
class _Fold:
    """The matrices for T angles in the order of `angles`: those that are their own opposites, some φ, then their −φ."""

    angles: Tensor  # (T,)
    pairs: int
    to_even: Tensor  # (T − pairs, M), from the real part of a spectrum
    to_odd: Tensor  # (pairs, M), from the imaginary part
    from_even: Tensor  # (M, T − pairs), to the real part
    from_odd: Tensor  # (M, pairs)


@lru_cache(maxsize=32)
def _fold(n_angles: int, device: torch.device) -> _Fold:
    count, pairs = n_angles // 2 + 1, (n_angles - 1) // 2
    upper = torch.arange(1, pairs + 1, device=device)
    alone = torch.tensor([0, n_angles // 2] if n_angles % 2 == 0 else [0], device=device)
    even = torch.cat([alone, upper])
    synthesis = fourier_matrix(n_angles, torch.float32, device)
    analysis = analysis_matrix(n_angles, torch.float32, device)
    return _Fold(
        torch.cat([even, n_angles - upper]),
        pairs,
        synthesis[even, :count].contiguous(),
        synthesis[upper, count:].contiguous(),
        analysis[:count, even].contiguous(),
        analysis[count:, upper].contiguous(),
    )


@dataclass(frozen=True)
class FoldedScores:
    """Scores in float32 (T, n, j), in the order of `angles`.

    They live in scratch memory until the next scores are made in the same thread. What `plus` and `mass` give shares
    one part of it, so each lasts until either is called again.
    """

    scores: Tensor
    angles: Tensor

    @classmethod
    def of(cls, a: Tensor, factors: Factors) -> FoldedScores:
        """Of signals `a` (M, n, 2C) with references."""
        n_angles, count, pair = factors.n_angles, a.shape[0], (a.shape[1], factors.real.shape[-1])
        fold = _fold(n_angles, a.device)
        cross = scratch("spectra", (2, count, *pair), a.device)
        torch.bmm(a, factors.real, out=cross[0])
        torch.bmm(a, factors.imaginary, out=cross[1])
        even, odd = _parts(n_angles, fold.pairs, pair, a.device)
        torch.mm(fold.to_even, cross[0].flatten(1), out=even.flatten(1))
        torch.mm(fold.to_odd, cross[1].flatten(1), out=odd.flatten(1))
        scores = scratch("scores", (n_angles, *pair), a.device)
        alone = n_angles - 2 * fold.pairs
        scores[:alone] = even[:alone]
        torch.add(even[alone:], odd, out=scores[alone : alone + fold.pairs])
        torch.sub(even[alone:], odd, out=scores[alone + fold.pairs :])
        return cls(scores, fold.angles)

    def plus(self, offset: Tensor) -> Tensor:
        """Scores plus `offset` (n, j): (T, n, j), written over cross-spectra that are used up or an earlier result."""
        whole = scratch("spectra", (2, len(self.angles) // 2 + 1, *offset.shape), offset.device)
        return torch.add(self.scores, offset, out=whole.flatten(0, 1)[: len(self.angles)])

    def highest(self) -> Tensor:
        """The highest score over the angles, (n, j)."""
        return self.scores.amax(dim=0)

    def mass(self, weights: Tensor) -> AngularMass:
        """The angular spectrum of weights (T, n, j), which `plus` gave and which are written over."""
        n_angles, pair = len(self.angles), weights.shape[1:]
        fold = _fold(n_angles, weights.device)
        even, odd = _parts(n_angles, fold.pairs, pair, weights.device)
        alone = n_angles - 2 * fold.pairs
        even[:alone] = weights[:alone]
        torch.add(weights[alone : alone + fold.pairs], weights[alone + fold.pairs :], out=even[alone:])
        torch.sub(weights[alone : alone + fold.pairs], weights[alone + fold.pairs :], out=odd)
        spectrum = scratch("spectra", (2, len(fold.from_even), *pair), weights.device)
        torch.mm(fold.from_even, even.flatten(1), out=spectrum[0].flatten(1))
        torch.mm(fold.from_odd, odd.flatten(1), out=spectrum[1].flatten(1))
        return AngularMass(spectrum[0], spectrum[1])


def _parts(n_angles: int, pairs: int, pair: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scratch memory of the even part, (T − pairs, n, j), and of the odd one, (pairs, n, j)."""
    both = scratch("parts", (n_angles, *pair), device)
    return both[: n_angles - pairs], both[n_angles - pairs :]
