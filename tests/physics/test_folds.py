"""Procedural domains: the geometry of protein chains."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.physics.folds import BOND_ANGSTROM, element_trace, make_domain


def distances(positions: np.ndarray) -> np.ndarray:
    """Distances of residues that are not near neighbours in the chain."""
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    index = np.arange(len(positions))
    return apart[np.abs(index[:, None] - index[None]) > 2]


def test_a_helix_rises_and_turns_like_an_alpha_helix() -> None:
    helix = element_trace("helix", 19)
    np.testing.assert_allclose(np.diff(helix[:, 2]), 1.5)
    np.testing.assert_allclose(np.linalg.norm(np.diff(helix, axis=0), axis=1), BOND_ANGSTROM, atol=0.05)
    angle = np.unwrap(np.arctan2(helix[:, 1], helix[:, 0]))
    np.testing.assert_allclose(np.rad2deg(np.diff(angle)), 100.0)
    # Right-handed: turning from x towards y while rising; one turn is 5.4 Å.
    assert pytest.approx(5.4) == 360 / 100 * 1.5


def test_a_strand_is_pleated_and_extended() -> None:
    strand = element_trace("strand", 9)
    np.testing.assert_allclose(np.diff(strand[:, 2]), 3.3)
    np.testing.assert_allclose(np.linalg.norm(np.diff(strand, axis=0), axis=1), BOND_ANGSTROM, atol=1e-9)
    assert np.all(np.diff(np.sign(strand[:, 1])) != 0)


@pytest.mark.parametrize("residues", [60, 150, 350])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_domain_is_a_compact_chain_without_clashes(residues: int, seed: int) -> None:
    domain = make_domain(residues, np.random.default_rng(seed))
    assert 0.7 * residues < len(domain) < 1.5 * residues
    bonds = np.linalg.norm(np.diff(domain.positions, axis=0), axis=1)
    assert np.all(np.abs(bonds - BOND_ANGSTROM) < 0.25)
    assert distances(domain.positions).min() > 3.9
    assert 0.4 < domain.ordered.mean() < 0.95
    gyration = np.sqrt(np.mean(np.sum(domain.positions**2, axis=1)))
    # Globular proteins: about 2.2 N^0.38 Å.
    assert gyration < 1.35 * 2.2 * len(domain) ** 0.38


def test_folds_differ_and_repeat_by_seed() -> None:
    one, same = (make_domain(120, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one.positions, same.positions)
    other = make_domain(120, np.random.default_rng(4))
    assert len(other) != len(one) or not np.allclose(other.positions, one.positions)
