"""Views from a mixture: density and draws agree."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.geometry.harmonics import real_harmonics, sphere_nodes
from clarice.geometry.so3 import view_directions
from clarice.physics.view_mixture import ViewMixture


@pytest.mark.parametrize("concentration", [0.5, 6.0, 100.0])
def test_density_sums_to_one(concentration: float) -> None:
    nodes, weights = sphere_nodes(60)
    assert weights @ ViewMixture.drawn(10, concentration, 1).density(nodes) == pytest.approx(1, abs=1e-6)


def test_draws_follow_the_density() -> None:
    """Means of spherical harmonics over draws are their integrals with the density."""
    mixture = ViewMixture.drawn(10, 6.0, 3)
    directions = view_directions(mixture.rotations(40_000, np.random.default_rng(0)))
    nodes, weights = sphere_nodes(40)
    expected = real_harmonics(nodes, 4).T @ (weights * mixture.density(nodes))
    found = real_harmonics(directions, 4).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_one_seed_gives_one_mixture() -> None:
    one, other = ViewMixture.drawn(4, 6.0, 7), ViewMixture.drawn(4, 6.0, 7)
    np.testing.assert_array_equal(one.means, other.means)
    assert not np.allclose(one.means, ViewMixture.drawn(4, 6.0, 8).means)
