"""Wigner's matrices: what turning a function does to its real spherical harmonics, degree by degree.

The function v turned by R is v'(r) = v(Rᵀ r), and its harmonics of degree l are D_l(R) times those of v, with

    D_l(R)_km = ∫ Y_k(ω) Y_m(Rᵀ ω) dω,   D_l(R S) = D_l(R) D_l(S),

orthogonal matrices of size 2 l + 1; the integral is taken by a quadrature that is exact for it. The inversion r → −r,
which turns a hand into the other, multiplies degree l by (−1)^l. Coefficients are (…, (degree + 1)², K), K functions at
a time, as in `geometry.harmonics`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from clarice.geometry.harmonics import degree_of_each, degrees_of, real_harmonics, sphere_nodes
from clarice.geometry.so3 import FloatArray


def wigner_matrices(rotations: FloatArray, degree: int) -> list[Tensor]:
    """D_l (n, 2 l + 1, 2 l + 1) float64 of rotations, or rotations with inversion, (n, 3, 3), for l = 0 … `degree`."""
    nodes, weights = sphere_nodes(degree)
    here = degrees_of(torch.from_numpy(real_harmonics(nodes, degree) * weights[:, None]))
    there = degrees_of(torch.from_numpy(real_harmonics(nodes @ np.asarray(rotations, dtype=np.float64), degree)))
    return [before.T @ after for before, after in zip(here, there, strict=True)]


def turned(coefficients: Tensor, matrices: list[Tensor]) -> Tensor:
    """Those of the functions turned: `coefficients` (…, (degree + 1)², K) by `matrices` (…, 2 l + 1, 2 l + 1)."""
    parts = zip(matrices, degrees_of(coefficients, -2), strict=True)
    return torch.cat([matrix.to(part.dtype) @ part for matrix, part in parts], dim=-2)


def mirrored(coefficients: Tensor) -> Tensor:
    """Those of the functions at −r: the other hand."""
    degree = round(coefficients.shape[-2] ** 0.5) - 1
    signs = torch.from_numpy(1.0 - 2.0 * (degree_of_each(degree) % 2))
    return coefficients * signs.to(coefficients)[:, None]


@lru_cache(maxsize=8)
def generators(degree: int) -> list[Tensor]:
    """J_l (3, 2 l + 1, 2 l + 1) float64, antisymmetric: turning by the vector ω is exp Σ_i ω_i J_i, i = x, y, z."""
    onto_z = np.array([[[0.0, 0, -1], [0, 1, 0], [1, 0, 0]], [[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], np.eye(3)])
    found = []
    for l, around in enumerate(wigner_matrices(onto_z, degree)):  # noqa: E741 — the degree's name in the field
        orders = torch.arange(-l, l + 1, dtype=torch.float64)
        about_z = torch.diag(-orders).flip(1)  # dx_m = −m x_−m, with m < 0 for sines
        found.append(around.transpose(1, 2) @ about_z @ around)
    return found
