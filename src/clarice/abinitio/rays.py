"""Central rays of images in Fourier space, and how much likelier two of them are to be one line of a structure.

A ray holds R complex coefficients, of radii k. Their noise is Gaussian of variance N(k), uncorrelated; their signal is
taken for Gaussian with the covariance that rays of the set have among themselves. That covariance matters: what most
rays of a molecule have in common, its extent and its mean profile, tells no two of them apart, and neighbouring radii
of a particle smaller than the box say the same. So rays are brought to noise of variance 1 and to the basis in which
their covariance is diagonal: z = Uᵀ N^−½ a, with signal of variance S_q in coefficient q. That two rays a and b share
their signal is then more probable than that they do not, in natural logarithms and less a constant, by

    λ(a, b) = Σ_q [ 2 c₁ Re(z_a z̄_b) − c₂ (|z_a|² + |z_b|²) ],   c₁ = S / (1 + 2S),   c₂ = S² / ((1 + S)(1 + 2S)).

U is real, since a ray and its opposite, the conjugate, are equally frequent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.geometry.polar import FourierRings

# Signal over noise of a coefficient where nothing is known of the noise: images all but clean.
CLEAN_SNR = 100.0
# Coefficients with less signal than this, beside noise of 1, tell nothing and are left out.
_LEAST_SIGNAL = 0.02


@dataclass(frozen=True)
class Rays:
    """Rays of n images at `half` angles of half a circle: `values` (n, half, R) complex, R radii in cycles per box.

    Ray h runs in direction π h / half from +x towards +y; the other half of the circle is the conjugate.
    """

    values: Tensor
    radii: Tensor
    box: int

    @classmethod
    def sampled(cls, images: Tensor, max_radius_px: float, half: int) -> Rays:
        """Exact samples of images (n, L, L) at radii 1, 2, … up to `max_radius_px`."""
        box = images.shape[-1]
        rings = FourierRings(box, tuple(float(radius) for radius in range(1, int(max_radius_px) + 1)), 2 * half)
        return cls(rings.sample(images).transpose(1, 2).contiguous(), torch.tensor(rings.radii), box)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def half(self) -> int:
        """Angles on half a circle."""
        return self.values.shape[1]

    def mean_power(self) -> Tensor:
        """Mean of |F|² over images and angles, (R,)."""
        return self.values.abs().square().mean(dim=(0, 1))

    def at(self, image: Tensor, index: Tensor) -> Tensor:
        """Rays (p, w, R) of images (p,) in directions (p, w), any integers."""
        wrapped = index % (2 * self.half)
        values = self.values[image[:, None], wrapped % self.half]
        return torch.where((wrapped >= self.half)[..., None], values.conj(), values)

    def moved_back(self, shifts_px: Tensor) -> Tensor:
        """Phases (…, R) that undo a move of the content by `shifts_px` (…) along the ray."""
        angle = 2 * torch.pi / self.box * shifts_px[..., None] * self.radii
        return torch.polar(torch.ones_like(angle), angle)


@dataclass(frozen=True)
class LineLikelihood:
    """λ of a set of rays: `analysis` (R, Q) is N^−½ U, real but of complex type; `cross` is 2 c₁, `energy` c₂, (Q,)."""

    analysis: Tensor
    cross: Tensor
    energy: Tensor

    @classmethod
    def of(cls, rays: Rays, snr: Tensor) -> LineLikelihood:
        """From the rays, and the ratio of signal to noise in the coefficients of each radius, `snr` (R,)."""
        power = rays.mean_power()
        noise = (power / (1 + snr)).clamp_min(torch.finfo(power.dtype).tiny)
        white = (rays.values / noise.sqrt()).flatten(0, 1)
        variance, basis = torch.linalg.eigh(_real_covariance(white).double())
        told = variance - 1 > _LEAST_SIGNAL
        told[-1] = True
        signal = (variance[told] - 1).clamp_min(_LEAST_SIGNAL).to(power.dtype)
        analysis = basis[:, told].to(power.dtype) / noise.sqrt()[:, None]
        cross, energy = 2 * signal / (1 + 2 * signal), signal.square() / ((1 + signal) * (1 + 2 * signal))
        return cls(analysis.to(rays.values.dtype), cross, energy)

    def energy_of(self, coefficients: Tensor) -> Tensor:
        """Σ_q c₂ |z|² of coefficients (…, Q): (…)."""
        return coefficients.abs().square() @ self.energy


def _real_covariance(white: Tensor) -> Tensor:
    """Real part of the mean of z z^H over rays (m, R): that over rays and their opposites, (R, R)."""
    return (white.real.T @ white.real + white.imag.T @ white.imag) / len(white)
