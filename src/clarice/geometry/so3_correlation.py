"""Correlation of two functions over all rotations, and in both hands: what lays one structure on another.

Of coefficients a and b, (n, K) each, the correlation at R is C(R) = Σ_l Σ_k a_lkᵀ D_l(R) b_lk. With R = Rz(α) Ry(β)
Rz(γ), turns about z multiply order m by a phase, so that for each β

    C(α, β, γ) = Σ_mm' e^{−imα} e^{−im'γ} Σ_l (d_l(β) ∘ X_l)_mm',   X_l = ā_l b_lᵀ in complex harmonics,

is a sum of degrees and a two-dimensional Fourier transform (Kostelec and Rockmore, J. Fourier Anal. Appl. 14, 145,
2008). From its highest values Newton's method climbs to the maximum: with b turned there, C(exp(ω) R) has the gradient
aᵀ J_i b and the second derivatives aᵀ (J_i J_j + J_j J_i) b / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from clarice.geometry.harmonics import degrees_of
from clarice.geometry.so3 import FloatArray
from clarice.geometry.wigner import generators, mirrored, turned, wigner_matrices

# Newton steps from each of so many of the highest values on the grid; none is longer than this, in radians.
_STEPS, _CLIMBED, _LONGEST_STEP = 6, 4, 0.1


@dataclass(frozen=True)
class Registration:
    """How a function is laid on another: mirrored first if `mirror`, then turned by `rotation` (3, 3).

    `correlation`: their inner product there, over the product of their lengths.
    """

    rotation: FloatArray
    mirror: bool
    correlation: float

    def laid(self, coefficients: Tensor) -> Tensor:
        """Coefficients (…, n, K) of the function laid on the other. Differentiable."""
        degree = math.isqrt(coefficients.shape[-2]) - 1
        matrices = [matrix[0] for matrix in wigner_matrices(self.rotation[None], degree)]
        return turned(mirrored(coefficients) if self.mirror else coefficients, matrices)


class RotationCorrelation:
    """Correlations of functions up to `degree` over a grid of rotations of at most half a wavelength of it."""

    def __init__(self, degree: int) -> None:
        self.degree = degree
        self.around = 2 ** math.ceil(math.log2(4 * degree + 2))
        self.tilts = (np.arange(2 * degree + 2) + 0.5) * np.pi / (2 * degree + 2)
        tilting = wigner_matrices(np.asarray(Rotation.from_euler("Y", self.tilts[:, None]).as_matrix()), degree)
        self._to_complex = [_to_complex(l) for l in range(degree + 1)]  # noqa: E741 — the degree's name in the field
        self._tilting = [c @ d.to(c.dtype) @ c.conj().T for c, d in zip(self._to_complex, tilting, strict=True)]

    def over_rotations(self, first: Tensor, second: Tensor) -> Tensor:
        """C (tilts, around, around) float64 at (β, α, γ), α and γ in equal steps from 0, of coefficients (n, K)."""
        size = self.around
        total = torch.zeros((len(self.tilts), size, size), dtype=torch.complex128)
        parts = zip(degrees_of(first.double(), 0), degrees_of(second.double(), 0), strict=True)
        for l, (a, b) in enumerate(parts):  # noqa: E741
            change = self._to_complex[l]
            crossed = (change @ a.to(change.dtype)).conj() @ (change @ b.to(change.dtype)).T
            rows = torch.arange(-l, l + 1) % size
            total[:, rows[:, None], rows] += self._tilting[l] * crossed
        return torch.fft.fft2(total).real

    def best(self, first: Tensor, second: Tensor, *, hands: bool = True) -> Registration:
        """How `second` (n, K) is best laid on `first` (n, K), in either hand unless `hands` is False."""
        first, second = first.detach().double(), second.detach().double()
        length = float(first.norm() * second.norm())
        found = [
            self._highest(first, mirrored(second) if mirror else second, mirror, max(length, 1e-300))
            for mirror in ((False, True) if hands else (False,))
        ]
        return max(found, key=lambda each: each.correlation)

    def _highest(self, first: Tensor, second: Tensor, mirror: bool, length: float) -> Registration:
        values = self.over_rotations(first, second)
        highest = torch.topk(values.flatten(), _CLIMBED).indices.numpy()
        tilt, alpha, gamma = np.unravel_index(highest, values.shape)
        step = 2 * np.pi / self.around
        angles = np.stack([alpha * step, self.tilts[tilt], gamma * step], axis=-1)
        rotations, climbed = _climbed(first, second, np.asarray(Rotation.from_euler("ZYZ", angles).as_matrix()))
        best = int(climbed.argmax())
        return Registration(rotations[best], mirror, float(climbed[best]) / length)


def _climbed(first: Tensor, second: Tensor, rotations: FloatArray) -> tuple[FloatArray, Tensor]:
    """Rotations near `rotations` (k, 3, 3) where the correlation is highest, and its values (k,)."""
    degree = math.isqrt(len(first)) - 1
    there = turned(second, wigner_matrices(rotations, degree))  # (k, n, K)
    about = generators(degree)
    by_degree = [(a, j @ a, j) for a, j in zip(degrees_of(first, 0), about, strict=True)]
    for _ in range(_STEPS):
        gradient = there.new_zeros((len(there), 3))
        curvature = there.new_zeros((len(there), 3, 3))
        for (a, a_once, j), b in zip(by_degree, degrees_of(there, -2), strict=True):
            once = j @ b[:, None]  # (k, 3, 2l + 1, K)
            gradient += (a * once).sum(dim=(-2, -1))
            curvature -= torch.einsum("imc,kjmc->kij", a_once, once)  # J is antisymmetric
        values, vectors = torch.linalg.eigh((curvature + curvature.mT) / 2)
        # Uphill along every axis, also where the function is not yet curved downwards.
        steep = values.abs().clamp_min(1e-300 + 1e-6 * values.abs().amax(dim=-1, keepdim=True))
        move = (vectors @ ((vectors.mT @ gradient[..., None]) / steep[..., None]))[..., 0]
        move = move * (_LONGEST_STEP / move.norm(dim=-1, keepdim=True).clamp_min(1e-300)).clamp_max(1.0)
        turns = [torch.linalg.matrix_exp(torch.einsum("ki,iab->kab", move, j)) for j in about]
        there = turned(there, turns)
        rotations = np.asarray(Rotation.from_rotvec(move.numpy()).as_matrix()) @ rotations
    return rotations, (first * there).sum(dim=(-2, -1))


def _to_complex(degree: int) -> Tensor:
    """The unitary matrix from real harmonics to ones that a turn about z by α multiplies by e^{−imα}."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    matrix[degree, degree] = 1
    for m in range(1, degree + 1):  # cos mφ − i sin mφ turned by α: e^{−im(φ − α)} = e^{imα} e^{−imφ}
        matrix[degree - m, degree + m], matrix[degree - m, degree - m] = 1 / math.sqrt(2), 1j / math.sqrt(2)
        matrix[degree + m, degree + m], matrix[degree + m, degree - m] = 1 / math.sqrt(2), -1j / math.sqrt(2)
    return torch.from_numpy(matrix)
