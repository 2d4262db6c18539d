"""The one operation of the house: correlate, assign and average over (reference, relative angle).

In polar coordinates an in-plane rotation is a shift along the angle axis, so all relative angles of all pairs come
from one batched matrix product per angular frequency. Signals are real, (n, channels, T), with T equally spaced
angles; complex polar Fourier rings of real images enter through their real Hartley form (`geometry.polar.hartley`).
Axes in front of n (sets, attention heads) are groups that do not see each other: (G, n, C, T) has spectra
(M, G, n, 2C) and scores (T, G, n, j).

    correlate  s(φ, i, j)   = Σ_c Σ_θ a_i(c, θ + φ) b_j(c, θ)
    assign     p(φ, j | i)  = softmax over (φ, j) of s
    average    out_i(c, θ)  = Σ_jφ p(φ, j | i) b_j(c, θ − φ)
    adjoint    out_j(c, θ)  = Σ_iφ p(φ, j | i) a_i(c, θ + φ)      (`average_onto`)

Scores are angle-major, (T, n, j), because then each frequency's product is one contiguous matrix. With `mirror`, the
references are followed by their mirror images (θ → −θ), so j doubles. Angles are gone through by products with a small
Fourier matrix, which is faster than FFTs along the first axis, in bfloat16 by an order of magnitude; float32 goes by
FFT where matrix units would round it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

# A score that no softmax lets through, finite so that gradients are.
RULED_OUT = -1e5
# Logarithm of what is taken for nothing beside the best. Left as they are, such probabilities end in numbers below
# float32's normal ones, with which some processors calculate fifty times as slowly.
FAINTEST_SCORE = -40.0


def to_spectrum(signals: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Angular spectrum of real signals (…, n, C, T), packed [Re | Im]: (T // 2 + 1, …, n, 2C) of `dtype`."""
    spectrum = torch.fft.rfft(signals.float(), dim=-1, norm="ortho").movedim(-1, 0)
    return torch.cat([spectrum.real, spectrum.imag], dim=-1).to(dtype).contiguous()


def from_spectrum(spectrum: Tensor, n_angles: int) -> Tensor:
    """Inverse of `to_spectrum`: real float32 signals (…, n, C, T)."""
    real, imaginary = spectrum.float().chunk(2, dim=-1)
    signals: Tensor = torch.fft.irfft(torch.complex(real, imaginary).movedim(0, -1), n=n_angles, dim=-1, norm="ortho")
    return signals


def mirror_spectrum(spectrum: Tensor) -> Tensor:
    """Spectrum of the mirror images, θ → −θ: the complex conjugate."""
    real, imaginary = spectrum.chunk(2, dim=-1)
    return torch.cat([real, -imaginary], dim=-1)


def with_mirrors(spectrum: Tensor) -> Tensor:
    """The references followed by their mirror images, along j."""
    return torch.cat([spectrum, mirror_spectrum(spectrum)], dim=-2)


@lru_cache(maxsize=32)
def fourier_matrix(n_angles: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T, 2M): what turns stacked real and imaginary cross-spectra into correlations over φ."""
    frequencies = torch.arange(n_angles // 2 + 1, dtype=torch.float64)
    phase = 2 * math.pi * torch.arange(n_angles, dtype=torch.float64)[:, None] * frequencies / n_angles
    twice = torch.full_like(frequencies, 2.0)  # every frequency stands for itself and its conjugate
    twice[0] = 1.0
    if n_angles % 2 == 0:
        twice[-1] = 1.0
    matrix = torch.cat([twice * torch.cos(phase), -twice * torch.sin(phase)], dim=1)
    return matrix.to(dtype=dtype, device=device)


def conjugate_products(b: Tensor) -> tuple[Tensor, Tensor]:
    """`b` (M, …, j, 2C) as right factors (M, …, 2C, j) that give the real and imaginary part of a · conj b."""
    b_real = b.transpose(-2, -1)
    upper, lower = b_real.chunk(2, dim=-2)
    # a · conj b = (a_r b_r + a_i b_i) + i (a_i b_r − a_r b_i)
    return b_real, torch.cat([-lower, upper], dim=-2)


def _by_transform(values: Tensor) -> bool:
    """Whether angles are gone through by FFT: accelerators may round the factors of float32 products."""
    return values.dtype == torch.float32 and values.device.type != "cpu"


def right_factors(b: Tensor) -> Tensor:
    """References with the packed spectrum `b` (M, …, j, 2C) as `correlate_factors` takes them: (2M, …, 2C, j)."""
    return torch.cat(conjugate_products(b))


def correlate_factors(a: Tensor, factors: Tensor, n_angles: int) -> Tensor:
    """`correlate_spectra` with references whose `right_factors` were worked out before, for many `a`."""
    if _by_transform(a):
        b_real, b_imaginary = factors.chunk(2)
        cross = torch.complex(a @ b_real, a @ b_imaginary)
        exact: Tensor = torch.fft.irfft(cross, n=n_angles, dim=0, norm="forward")
        return exact
    cross = torch.cat([a, a]) @ factors  # (2M, …, n, j)
    scores = fourier_matrix(n_angles, a.dtype, a.device) @ cross.flatten(1)
    return scores.view(n_angles, *cross.shape[1:])


def correlate_spectra(a: Tensor, b: Tensor, n_angles: int) -> Tensor:
    """Scores (T, …, n, j) from packed spectra `a` (M, …, n, 2C) and `b` (M, …, j, 2C) of one dtype; differentiable."""
    return correlate_factors(a, right_factors(b), n_angles)


def correlate(
    a: Tensor,
    b: Tensor,
    *,
    mirror: bool = False,
    weights: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Scores (T, n, j) of signals `a` (n, C, T) against references `b` (j, C, T); (T, n, 2j) with `mirror`.

    `weights` (C,) multiply each channel (ring). Index φ means: `a` is the reference turned by +2πφ/T.
    """
    weighted = a if weights is None else a * weights[:, None]
    references = to_spectrum(b, dtype)
    return correlate_spectra(
        to_spectrum(weighted, dtype), with_mirrors(references) if mirror else references, a.shape[-1]
    )


def assign(scores: Tensor, sink: Tensor | None = None) -> Tensor:
    """Posterior (T, …, n, j): softmax of the scores jointly over angle and reference.

    `sink` (…, n) is the score of matching nothing at all: what falls there is missing from the posterior's sum. With
    it, all references of a row may have the score `RULED_OUT`. Where nothing is learned, what is less probable than
    e^−40 of the best is 0.
    """
    scores = scores.float()
    if torch.is_grad_enabled() and (scores.requires_grad or (sink is not None and sink.requires_grad)):
        total = torch.logsumexp(scores, dim=(0, -1))
        if sink is not None:
            total = torch.logaddexp(total, sink.float())
        return torch.exp(scores - total[None, ..., None])
    peak = scores.amax(dim=(0, -1))
    if sink is not None:
        peak = torch.maximum(peak, sink.float())
    weights = (scores - peak[None, ..., None]).clamp_min_(FAINTEST_SCORE).exp_()
    nn.functional.threshold(weights, 1.001 * math.exp(FAINTEST_SCORE), 0.0, inplace=True)
    total = weights.sum(dim=(0, -1))
    if sink is not None:
        total = total + torch.exp(sink.float() - peak)
    return weights.div_(total[None, ..., None])


def posterior_spectrum(posterior: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary angular spectrum (M, …, n, j) each of a posterior (T, …, n, j), unnormalised transform."""
    if _by_transform(posterior):
        spectrum = torch.fft.rfft(posterior, dim=0)
        return spectrum.real, spectrum.imag
    matrix: Tensor = analysis_matrix(posterior.shape[0], posterior.dtype, posterior.device)
    packed = matrix @ posterior.flatten(1)
    real, imaginary = packed.view(-1, *posterior.shape[1:]).chunk(2)
    return real, imaginary


@lru_cache(maxsize=32)
def analysis_matrix(n_angles: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2M, T): the real Fourier transform over φ as a matrix, cosines above minus sines."""
    frequencies = torch.arange(n_angles // 2 + 1, dtype=torch.float64)[:, None]
    phase = 2 * math.pi * frequencies * torch.arange(n_angles, dtype=torch.float64) / n_angles
    return torch.cat([torch.cos(phase), -torch.sin(phase)]).to(dtype=dtype, device=device)


def average_spectra(posterior: Tensor, b: Tensor) -> Tensor:
    """Packed spectrum (M, …, n, 2C) of `out_i = Σ p T_φ b_j`: posterior (T, …, n, j), spectrum `b` (M, …, j, 2C)."""
    real, imaginary = posterior_spectrum(posterior)
    b_real, b_imaginary = b.chunk(2, dim=-1)
    turned = torch.cat([-b_imaginary, b_real], dim=-1)  # i · b
    averaged: Tensor = real.contiguous() @ b + imaginary.contiguous() @ turned
    return averaged


@dataclass(frozen=True)
class AngularMass:
    """Weights over (φ, i, j) as their angular spectrum, real and imaginary (M, n, j) each."""

    real: Tensor
    imaginary: Tensor

    @classmethod
    def of(cls, weights: Tensor) -> AngularMass:
        """From weights (T, n, j)."""
        return cls(*posterior_spectrum(weights))

    @property
    def total(self) -> Tensor:
        """Weights summed over φ, (n, j) float32."""
        return self.real[0].float()

    def onto(self, a: Tensor) -> Tensor:
        """Packed spectrum (M, j, 2C) of `out_j = Σ w T_−φ a_i` from the spectrum `a` (M, n, 2C)."""
        a_real, a_imaginary = a.chunk(2, dim=-1)
        turned = torch.cat([a_imaginary, -a_real], dim=-1)  # −i · a
        return torch.baddbmm(torch.bmm(self.real.transpose(1, 2), a), self.imaginary.transpose(1, 2), turned)


def average_onto_spectra(posterior: Tensor, a: Tensor) -> Tensor:
    """Packed spectrum (M, j, 2C) of `out_j = Σ p T_−φ a_i` from a posterior (T, n, j) and spectrum `a` (M, n, 2C)."""
    return AngularMass.of(posterior).onto(a)


def average(posterior: Tensor, b: Tensor, *, mirror: bool = False) -> Tensor:
    """Signals (n, C, T): for each i the references `b` (j, C, T), turned and weighted by the posterior (T, n, j)."""
    spectrum = to_spectrum(b, posterior.dtype)
    return from_spectrum(average_spectra(posterior, with_mirrors(spectrum) if mirror else spectrum), b.shape[-1])


def average_onto(posterior: Tensor, a: Tensor, *, mirror: bool = False) -> Tensor:
    """Signals (j, C, T): for each reference the `a` (n, C, T) turned back onto it; the adjoint of `average`.

    With `mirror` the posterior has 2j references, and what fell on a mirror image is mirrored back.
    """
    spectrum = average_onto_spectra(posterior, to_spectrum(a, posterior.dtype))
    if mirror:
        plain, mirrored = spectrum.chunk(2, dim=1)
        spectrum = plain + mirror_spectrum(mirrored)
    return from_spectrum(spectrum, a.shape[-1])


def rows_within(memory_mb: float, references: int, n_angles: int, dtype: torch.dtype) -> int:
    """How many rows i fit a memory budget: scores, their exponentials and spectra are held at once."""
    bytes_per_row = references * n_angles * (torch.finfo(dtype).bits // 8 * 3 + 4)
    return max(1, int(memory_mb * 2**20 / bytes_per_row))


def fast_dtype(device: torch.device | None = None) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively (GPUs, CPUs with AVX512-BF16 or AMX), else float32."""
    if device is not None and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if native.get("avx512_bf16") or native.get("amx_bf16") else torch.float32


def fast_autocast(device: torch.device) -> torch.autocast:
    """Networks run inside it, in the fastest precision that `device` multiplies natively."""
    dtype = fast_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
