"""Kam's relation: what the second moment of views from everywhere tells of a structure.

With views uniform over SO(3), a_m sees degree l of the structure with weight c_lm and the rest averages out:

    E a_m(k) ā_m(k') = Σ_{l ≥ m, l ≡ m (2)} c_lm C_l(k, k'),   c_lm = |Y_lm(π/2, 0)|² / (2l + 1),   C_l = A_l A_lᵀ

(Kam, J. Theor. Biol. 82, 15, 1980), A as in `geometry.harmonics`. It is linear and triangular in C_l, so C_l follows
from the highest order down, exactly and whatever the errors. It leaves an orthogonal matrix of each degree unknown, and
the hand. `learned_retrieval` draws structures
that have such C_l; `moment_fit` needs no views from everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import sph_harm_y
from torch import Tensor

from clarice.abinitio.moments import Moments
from clarice.abinitio.orthogonal_factors import factor_of
from clarice.geometry.harmonics import degrees_of


def coupling(degree: int, orders: int) -> Tensor:
    """c_lm (orders + 1, degree + 1), 0 where l < m or l and m differ in parity."""
    m, l = np.mgrid[0 : orders + 1, 0 : degree + 1]  # noqa: E741 — the degree's name in the field
    seen = (l >= m) & ((l - m) % 2 == 0)
    values = np.abs(sph_harm_y(l, np.minimum(l, m), np.pi / 2, 0.0)) ** 2 / (2 * l + 1)
    return torch.from_numpy(np.where(seen, values, 0.0))


def autocorrelations_of(coefficients: Tensor) -> Tensor:
    """C_l (…, degree + 1, K, K) of structures' A (…, n, K), n = (degree + 1)²."""
    return torch.stack([part.mT @ part for part in degrees_of(coefficients, -2)], dim=-3)


def second_moment_of(autocorrelations: Tensor, orders: int) -> Tensor:
    """E a_m ā_m (orders + 1, K, K) of a structure with C_l (degree + 1, K, K), seen from everywhere."""
    weights = coupling(len(autocorrelations) - 1, orders)
    return torch.einsum("ml,lab->mab", weights, autocorrelations)


@dataclass(frozen=True)
class Autocorrelations:
    """C_l (degree + 1, K, K) and the standard deviations that the moments' own errors give them."""

    values: Tensor
    errors: Tensor

    def factors(self) -> list[Tensor]:
        """F_l (K, 2l + 1) with F_l F_lᵀ the nearest matrix to C_l that a degree can have: positive, of rank 2l + 1."""
        return [factor_of(value, 2 * l + 1) for l, value in enumerate(self.values)]  # noqa: E741


def autocorrelations(moments: Moments, diameter_px: float) -> Autocorrelations:
    """C_l from the second moment of particles within `diameter_px`, as many orders as degrees for each (k, k').

    A ring of radius k sees degrees up to about π k D / L (the Bessel functions' cut-off), and as many again as its
    square root: for a pair of rings, those that both see.
    """
    second, error = moments.second_moment().real, moments.second_error().real
    radii = torch.tensor(moments.rings.radii, dtype=torch.float64)
    seen = degrees_seen(radii, diameter_px, moments.rings.box).clamp_max(moments.rings.orders)
    degree, rings = int(seen.max()), len(radii)
    matrix = coupling(degree, moments.rings.orders)
    values, errors = (torch.zeros(degree + 1, rings, rings, dtype=torch.float64) for _ in range(2))
    known_of_pair = torch.minimum(seen[:, None], seen) + 1
    for known in sorted(set(known_of_pair.flatten().tolist())):
        pairs = (known_of_pair == known).nonzero(as_tuple=True)
        identity = torch.eye(known, dtype=torch.float64)
        inverse = torch.linalg.solve_triangular(matrix[:known, :known], identity, upper=True)
        values[:known, *pairs] = inverse @ second[:known, *pairs]
        errors[:known, *pairs] = (inverse.square() @ error[:known, *pairs].square()).sqrt()
    return Autocorrelations((values + values.transpose(1, 2)) / 2, errors)


def degrees_seen(radii: Tensor, diameter_px: float, box: int) -> Tensor:
    """The highest degree that matters on spheres of `radii` (K,), cycles per box: (K,) integers."""
    waves = math.pi * radii * diameter_px / box
    return (waves + waves.sqrt()).ceil().long()
