from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from clarice.geometry.so3 import random_rotations, symmetry_rotations, view_rotations
from clarice.metrics.clusters import adjusted_rand_index, purity, view_spread


def test_purity_of_a_counted_example():
    assert purity([0, 0, 0, 1, 1], ["a", "a", "b", "b", "b"]) == pytest.approx(4 / 5)
    assert purity([0, 1, 2], [0, 0, 0]) == 1


def test_rand_index_equals_the_count_over_pairs():
    random = np.random.default_rng(0)
    a, b = random.integers(3, size=40), random.integers(4, size=40)
    b[:20] = a[:20]
    pairs = list(combinations(range(40), 2))
    same_a, same_b = (np.array([x[i] == x[j] for i, j in pairs]) for x in (a, b))
    both, expected = (same_a & same_b).sum(), same_a.sum() * same_b.sum() / len(pairs)
    largest = (same_a.sum() + same_b.sum()) / 2
    assert adjusted_rand_index(a, b) == pytest.approx((both - expected) / (largest - expected))


def test_rand_index_of_equal_and_of_random_partitions():
    random = np.random.default_rng(1)
    labels = random.integers(5, size=2000)
    assert adjusted_rand_index(labels, (labels + 2) % 5) == 1
    assert adjusted_rand_index(labels, random.integers(5, size=2000)) == pytest.approx(0, abs=0.02)
    assert adjusted_rand_index([0, 0], [1, 1]) == 1


def cone(generator, count, opening_deg):
    """Views at exactly `opening_deg` from one direction, all around it."""
    around = np.linspace(0, 2 * np.pi, count, endpoint=False)
    opening = np.deg2rad(opening_deg)
    views = np.stack(
        [
            np.sin(opening) * np.cos(around),
            np.sin(opening) * np.sin(around),
            np.full(count, np.cos(opening)),
        ],
        axis=1,
    )
    return view_rotations(views @ random_rotations(1, generator)[0].T, 33.0)


def test_spread_of_cones_is_their_opening(generator):
    rotations = np.concatenate([cone(generator, 24, 12.0), cone(generator, 8, 30.0)])
    spread = view_spread(rotations, np.repeat([7, 3], [24, 8]))
    np.testing.assert_array_equal(spread.classes, [3, 7])
    np.testing.assert_array_equal(spread.sizes, [8, 24])
    np.testing.assert_allclose(spread.median_deg, [30, 12], atol=1e-6)
    assert spread.overall_deg == pytest.approx(12)


def test_opposite_views_are_one_view_only_when_mirrors_are_equivalent(generator):
    rotations = cone(generator, 20, 5.0)
    rotations[::2] = np.diag([1.0, -1.0, -1.0]) @ rotations[::2]
    labels = np.zeros(20)
    assert view_spread(rotations, labels, mirror_equivalent=True).overall_deg == pytest.approx(5)
    assert view_spread(rotations, labels).overall_deg > 80


def test_symmetric_views_are_one_view(generator):
    group = symmetry_rotations("D3")
    rotations = cone(generator, 30, 5.0) @ group[np.arange(30) % 6]
    labels = np.zeros(30)
    assert view_spread(rotations, labels, symmetry="D3").overall_deg < 5.1
    assert view_spread(rotations, labels).overall_deg > 20


def test_labels_that_do_not_match_are_refused(generator):
    with pytest.raises(ValueError, match="cannot be compared"):
        purity([1, 2], [1])
    with pytest.raises(ValueError, match="do not go with"):
        view_spread(random_rotations(3, generator), [0, 1])
