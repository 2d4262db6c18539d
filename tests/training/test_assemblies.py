"""Made-up complexes: bodies touch without running into each other, and the symmetry is the one asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from clarice.geometry.so3 import symmetry_rotations
from clarice.physics.atoms import Atoms
from clarice.physics.molecules import make_molecule
from clarice.training.assemblies import CONTACT_ANGSTROM, joined, pressed_together, symmetric_assembly


@pytest.fixture(scope="module")
def body() -> Atoms:
    return make_molecule(3, mass_kda=25)


def gaps(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.asarray(cKDTree(points).query(others)[0])


@pytest.mark.parametrize("symmetry", ["C2", "C3", "C7", "D2", "D3", "T", "O"])
def test_complexes_have_their_symmetry(body: Atoms, symmetry: str) -> None:
    whole = symmetric_assembly(body, symmetry, np.random.default_rng(1)).positions_angstrom
    operators = symmetry_rotations(symmetry)
    assert len(whole) == len(operators) * len(body)
    for operator in operators:
        assert gaps(whole @ operator.T, whole).max() < 1e-6


@pytest.mark.parametrize("symmetry", ["C2", "C5", "D2", "D3", "T", "O"])
def test_copies_hang_together_and_hardly_overlap(body: Atoms, symmetry: str) -> None:
    whole = symmetric_assembly(body, symmetry, np.random.default_rng(1)).positions_angstrom
    size = len(body)
    copies = [whole[start : start + size] for start in range(0, len(whole), size)]
    reached, border = {0}, [0]
    while border:
        here = border.pop()
        near = [n for n, copy in enumerate(copies) if gaps(copies[here], copy).min() < 2 * CONTACT_ANGSTROM]
        border += [n for n in near if n not in reached]
        reached |= set(near)
    assert len(reached) == len(copies)
    others = np.concatenate(copies[1:])
    assert np.mean(gaps(others, copies[0]) < CONTACT_ANGSTROM) < 0.25


def test_chains_pressed_together_touch(body: Atoms) -> None:
    rng = np.random.default_rng(4)
    other = make_molecule(8, mass_kda=30)
    whole = pressed_together([body, other], rng).positions_angstrom
    near = gaps(whole[: len(body)], whole[len(body) :])
    assert len(whole) == len(body) + len(other)
    assert near.min() < 2 * CONTACT_ANGSTROM
    assert np.mean(near < CONTACT_ANGSTROM) < 0.1


def test_joining_keeps_every_property(body: Atoms) -> None:
    two = joined([body, body])
    for name in ("positions_angstrom", "atomic_number", "b_factor", "weight"):
        assert np.array_equal(getattr(two, name), np.concatenate([getattr(body, name)] * 2))
