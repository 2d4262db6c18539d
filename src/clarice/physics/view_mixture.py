"""Views that are not uniform: a mixture of von Mises–Fisher distributions of viewing directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import uniform_direction, vonmises_fisher

from clarice.geometry.so3 import FloatArray, view_rotations


@dataclass(frozen=True)
class ViewMixture:
    """Components about `means` (c, 3) with `weights` (c,) and one concentration κ; in-plane angles are uniform.

    With κ = 0, views come from everywhere alike.
    """

    means: FloatArray
    weights: FloatArray
    concentration: float

    @classmethod
    def drawn(cls, components: int, concentration: float, seed: int) -> ViewMixture:
        """Means uniform on the sphere, weights uniform on the simplex."""
        rng = np.random.default_rng(seed)
        means = uniform_direction(3).rvs(components, random_state=rng).reshape(components, 3)
        return cls(means, rng.dirichlet(np.ones(components)), concentration)

    @classmethod
    def everywhere(cls) -> ViewMixture:
        """Views uniform on the sphere."""
        return cls(np.array([[0.0, 0.0, 1.0]]), np.ones(1), 0.0)

    def density(self, directions: FloatArray) -> FloatArray:
        """Probability a steradian of `directions` (n, 3): (n,)."""
        kappa = self.concentration
        if kappa == 0:
            return np.full(len(directions), 1 / (4 * np.pi))
        # κ / (4π sinh κ) e^{κ cos} without overflow.
        scale = kappa / (2 * np.pi * -np.expm1(-2 * kappa))
        each = scale * np.exp(kappa * (directions @ self.means.T - 1))
        return np.asarray(each @ self.weights, dtype=np.float64)

    def rotations(self, count: int, rng: np.random.Generator) -> FloatArray:
        """`count` rotations (n, 3, 3), independent draws."""
        if self.concentration == 0:
            directions = uniform_direction(3).rvs(count, random_state=rng).reshape(count, 3)
            return view_rotations(directions, rng.uniform(0, 360, count))
        each = rng.multinomial(count, self.weights)
        kappa: Any = self.concentration  # scipy's stubs ask for a whole number
        directions = np.concatenate([
            vonmises_fisher(mean, kappa).rvs(int(number), random_state=rng).reshape(-1, 3)
            for mean, number in zip(self.means, each, strict=True) if number
        ])  # fmt: skip
        return view_rotations(rng.permutation(directions), rng.uniform(0, 360, count))
