"""Spherical harmonics: functions in a ball, their Fourier transforms on spheres, and the rings of their slices.

A real density in a ball of radius c is v(r) = Σ_lsm x_lsm f_ls(|r|) Y_lm(r / |r|), with real orthonormal harmonics Y
and normalised spherical Bessel functions f_ls(r) ∝ j_l(u_ls r / c) that vanish at c. On the sphere of radius k, in
cycles per box of edge L, its Fourier transform is

    V(k ω) = Σ_l (−i)^l Σ_m A_lm(k) Y_lm(ω),   A_l = B_l x_l,   B_l(k, s) = 4π ∫₀ᶜ f_ls(r) j_l(2π k r / L) r² dr.

A is real, because v is. Turning the density by R turns each degree by an orthogonal matrix of its own. A ring of a
central slice has the Fourier series

    a_m(k) = ⟨F(k, θ) e^{−imθ}⟩_θ = Σ_l (−i)^l Σ_m' ⟨Y_lm'(Rᵀ(cos θ, sin θ, 0)) e^{−imθ}⟩_θ A_lm'(k),

whose terms are 0 unless l ≥ |m| and l ≡ m (mod 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import sph_harm_y_all, spherical_jn
from torch import Tensor

from clarice.geometry.nufft import fourier_at

FloatArray = NDArray[np.float64]

# Nodes of the radial quadrature: exact to double precision for every function that a box of some hundred pixels holds.
_RADIAL_NODES = 256
# Voxels whose values are summed at a time.
_VOXELS_A_TIME = 4096


def real_harmonics(directions: FloatArray, degree: int) -> FloatArray:
    """Y_lm at unit vectors (…, 3), (x, y, z), for l ≤ `degree`: (…, (degree + 1)²), order (l, m = −l … l).

    Orthonormal over the sphere; Y_l,−m has sin mφ, Y_lm has cos mφ, without the Condon–Shortley sign.
    """
    polar = np.arccos(np.clip(directions[..., 2], -1, 1))
    azimuth = np.arctan2(directions[..., 1], directions[..., 0])
    every = sph_harm_y_all(degree, degree, polar, azimuth)
    columns = []
    for l in range(degree + 1):  # noqa: E741 — the degree's name in the field
        for m in range(-l, l + 1):
            sign = math.sqrt(2) * (-1) ** m
            columns.append(every[l, 0].real if m == 0 else sign * (every[l, m].real if m > 0 else every[l, -m].imag))
    return np.stack(columns, axis=-1)


def degrees_of(values: Tensor, dim: int = -1) -> list[Tensor]:
    """The parts of an axis of (degree + 1)² harmonics that belong to l = 0, 1, …: 2l + 1 of each."""
    degree = math.isqrt(values.shape[dim]) - 1
    return list(torch.split(values, [2 * l + 1 for l in range(degree + 1)], dim))  # noqa: E741


def degree_of_each(degree: int) -> NDArray[np.int64]:
    """l of each of the (degree + 1)² harmonics."""
    return np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)


def sphere_nodes(degree: int) -> tuple[FloatArray, FloatArray]:
    """Directions (n, 3) and weights (n,) that integrate products of two harmonics up to `degree` exactly.

    Gauss–Legendre along z, equal steps around it.
    """
    z, weights = np.polynomial.legendre.leggauss(degree + 1)
    azimuth = 2 * np.pi * np.arange(2 * degree + 2) / (2 * degree + 2)
    around = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)
    flat = np.sqrt(1 - z**2)[:, None, None] * around
    nodes = np.concatenate([flat, np.broadcast_to(z[:, None, None], (*flat.shape[:2], 1))], axis=-1)
    return nodes.reshape(-1, 3), np.repeat(weights * np.pi / (degree + 1), 2 * degree + 2)


def sphere_coefficients(volume: Tensor, radii: tuple[float, ...], degree: int) -> Tensor:
    """A_lm(k) of a volume (L, L, L) at `radii` k, cycles per box, for l ≤ `degree`: ((degree + 1)², K) float64."""
    box = volume.shape[-1]
    nodes, weights = sphere_nodes(degree)
    points = torch.from_numpy(np.asarray(radii)[:, None, None] * nodes / box).float()
    values = fourier_at(volume, points.reshape(-1, 3)).view(len(radii), -1).to(torch.complex128)
    harmonics = torch.from_numpy(real_harmonics(nodes, degree) * weights[:, None])
    by_degree = degrees_of(values @ harmonics.to(values.dtype))
    return torch.cat([(part * 1j**l).real for l, part in enumerate(by_degree)], dim=-1).T  # noqa: E741


def slice_series(rotations: FloatArray, degree: int, orders: int) -> Tensor:
    """Matrices (n, orders + 1, (degree + 1)²) complex that take A(k) to a_m(k), m = 0 … orders, of slices (n, 3, 3)."""
    angles = 2 * degree + 2 + orders
    theta = 2 * np.pi * np.arange(angles) / angles
    ring = np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    series = np.stack([
        np.fft.fft(real_harmonics(ring @ rotation[:2], degree), axis=0)[: orders + 1] / angles for rotation in rotations
    ])  # fmt: skip
    phases = np.array([1, -1j, -1, 1j])[degree_of_each(degree) % 4]  # (−i)^l
    return torch.from_numpy(series * phases)


@dataclass(frozen=True)
class BallBasis:
    """Functions f_ls Y_lm in a ball of `radius_px` about the centre of a box, with frequencies up to `max_radius`.

    `max_radius` is in cycles per box: functions are kept where u_ls ≤ 2π max_radius radius_px / box. Orthonormal as
    functions of pixels.
    """

    box: int
    radius_px: float
    max_radius: float

    @cached_property
    def zeros(self) -> list[FloatArray]:
        """u_ls of the functions kept, for l = 0, 1, …"""
        limit = 2 * math.pi * self.max_radius * self.radius_px / self.box
        found: list[FloatArray] = []
        count = int(limit / math.pi) + 2
        # The zeros of j_0; those of each j_l+1 lie between those of j_l.
        above: FloatArray = np.asarray(np.pi * np.arange(1, count + math.ceil(limit) + 2), dtype=np.float64)
        while (kept := above[above <= limit]).size:
            found.append(kept)
            above = np.asarray([_zero_between(len(found), *ends) for ends in pairwise(above)], dtype=np.float64)
        if not found:
            raise ValueError(
                f"a ball of {self.radius_px:g} px holds no function up to {self.max_radius:g} cycles a box"
            )
        return found

    @property
    def degree(self) -> int:
        """The highest l."""
        return len(self.zeros) - 1

    @property
    def size(self) -> int:
        """The number of functions."""
        return sum((2 * l + 1) * len(zeros) for l, zeros in enumerate(self.zeros))  # noqa: E741

    def frequencies(self) -> Tensor:
        """Frequency of each function, cycles per box: (size,) float64."""
        each = [np.repeat(zeros, 2 * l + 1) for l, zeros in enumerate(self.zeros)]  # noqa: E741
        return torch.from_numpy(np.concatenate(each)) * self.box / (2 * math.pi * self.radius_px)

    def split(self, coefficients: Tensor) -> list[Tensor]:
        """x_l (S_l, 2l + 1) of each degree, from all of them (size,)."""
        shapes = [(len(zeros), 2 * l + 1) for l, zeros in enumerate(self.zeros)]  # noqa: E741
        parts = torch.split(coefficients, [rows * columns for rows, columns in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _radial(self, degree: int, radii_px: FloatArray) -> FloatArray:
        """f_ls at radii (n,), in pixels: (n, S)."""
        zeros = self.zeros[degree]
        norm = self.radius_px**1.5 / math.sqrt(2) * np.abs(spherical_jn(degree + 1, zeros))
        inside = (radii_px < self.radius_px)[:, None]
        values: FloatArray = inside * spherical_jn(degree, radii_px[:, None] * zeros / self.radius_px) / norm
        return values

    def transforms(self, radii: tuple[float, ...]) -> list[Tensor]:
        """B_l (K, S_l) at `radii`, cycles per box, for every degree: float64."""
        nodes, weights = np.polynomial.legendre.leggauss(_RADIAL_NODES)
        r = (nodes + 1) * self.radius_px / 2
        weights = weights * self.radius_px / 2 * r**2
        waves = 2 * np.pi * np.outer(radii, r) / self.box
        return [
            torch.from_numpy(4 * np.pi * (spherical_jn(l, waves) * weights) @ self._radial(l, r))
            for l in range(self.degree + 1)  # noqa: E741
        ]

    def on_spheres(self, coefficients: Tensor, transforms: list[Tensor]) -> Tensor:
        """A ((degree + 1)², K) of coefficients (size,), by the `transforms` of some radii. Differentiable."""
        parts = zip(transforms, self.split(coefficients), strict=True)
        return torch.cat([(transform @ part).T for transform, part in parts])

    def functions_at(self, points_px: FloatArray) -> Tensor:
        """Every function at points (n, 3), (x, y, z) from the centre in pixels: (n, size) float64."""
        radii = np.linalg.norm(points_px, axis=-1)
        directions = points_px / np.maximum(radii, 1e-12)[:, None]
        harmonics = degrees_of(torch.from_numpy(real_harmonics(directions, self.degree)))
        radial = (torch.from_numpy(self._radial(l, radii)) for l in range(self.degree + 1))  # noqa: E741
        return torch.cat([(f[:, :, None] * y[:, None]).flatten(1) for f, y in zip(radial, harmonics, strict=True)], 1)

    def to_volume(self, coefficients: Tensor) -> Tensor:
        """The density (L, L, L) float32 of coefficients (size,)."""
        volume = torch.zeros((self.box,) * 3)
        inside, points, radii = self.voxels()
        values = [self._at(points[part], radii[part], self.split(coefficients.double())) for part in _parts(len(radii))]
        volume[torch.from_numpy(inside)] = torch.cat(values).float()
        return volume

    def of_volume(self, volume: Tensor) -> Tensor:
        """Coefficients (size,) float64 of a volume's (L, L, L) part in the ball: inner products over voxels."""
        inside, points, radii = self.voxels()
        values = volume[torch.from_numpy(inside)].double()
        sums = [torch.zeros(len(zeros), 2 * l + 1, dtype=torch.float64) for l, zeros in enumerate(self.zeros)]  # noqa: E741
        for part in _parts(len(radii)):
            harmonics = degrees_of(torch.from_numpy(real_harmonics(points[part], self.degree)))
            for l, total in enumerate(sums):  # noqa: E741
                total += torch.from_numpy(self._radial(l, radii[part])).T @ (values[part, None] * harmonics[l])
        return torch.cat([total.flatten() for total in sums])

    def _at(self, directions: FloatArray, radii_px: FloatArray, parts: list[Tensor]) -> Tensor:
        harmonics = degrees_of(torch.from_numpy(real_harmonics(directions, self.degree)))
        total = torch.zeros(len(radii_px), dtype=torch.float64)
        for l, part in enumerate(parts):  # noqa: E741
            total += ((torch.from_numpy(self._radial(l, radii_px)) @ part) * harmonics[l]).sum(dim=-1)
        return total

    def voxels(self) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
        """Which voxels lie in the ball (L, L, L), their directions (n, 3), (x, y, z), and their distances (n,)."""
        axis = np.arange(self.box) - self.box // 2
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        radius = np.sqrt(x**2 + y**2 + z**2)
        inside = radius < self.radius_px
        points = np.stack([x[inside], y[inside], z[inside]], axis=-1)
        return inside, points / np.maximum(radius[inside], 1e-12)[:, None], radius[inside]


def _zero_between(degree: int, low: float, high: float) -> float:
    """The zero of j_l between two neighbouring zeros of j_l−1."""
    return float(brentq(lambda u: float(spherical_jn(degree, u)), low, high))


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _VOXELS_A_TIME) for start in range(0, count, _VOXELS_A_TIME)]
