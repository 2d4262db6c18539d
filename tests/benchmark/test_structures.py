"""The structures of the protocols, and that their point groups are true of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clarice.benchmark import structures
from clarice.benchmark.structures import (
    ACCEPTANCE_ENTRIES,
    MOLECULE_ENTRIES,
    POINT_GROUPS,
    TEST_ENTRIES,
    PointGroup,
    load_subject,
    seeds_of,
    structures_folder,
)
from clarice.core.errors import InputError, UsageError
from clarice.geometry.so3 import symmetry_rotations
from clarice.metrics.registration import apply_superposition, correlation_in_sphere
from clarice.physics.potential import atoms_to_volume

SYMMETRIC = [entry for entry, group in POINT_GROUPS.items() if group.name != "C1" and not entry.startswith("molecule")]


def correlations_under_the_group(subject: structures.Subject) -> list[float]:
    """Of the structure's map with itself, turned by each member of its point group."""
    atoms = subject.atoms.centred()
    volume = atoms_to_volume(atoms, 32, atoms.diameter_angstrom() / (0.65 * 32)).numpy()
    frame = subject.point_group.frame
    turns = [frame.T @ member @ frame for member in symmetry_rotations(subject.point_group.name)]
    return [correlation_in_sphere(apply_superposition(volume, turn, np.zeros(3), False), volume) for turn in turns[1:]]


@pytest.mark.parametrize("entry", [entry for entry in MOLECULE_ENTRIES if entry in POINT_GROUPS])
def test_molecules_have_the_symmetry_stated(entry: str) -> None:
    assert min(correlations_under_the_group(load_subject(entry, None))) > 0.95


@pytest.mark.parametrize("entry", SYMMETRIC)
def test_structures_have_the_symmetry_stated(entry: str, shared_data: Path) -> None:
    assert min(correlations_under_the_group(load_subject(entry, structures_folder(shared_data)))) > 0.95


def test_a_wrong_axis_is_seen() -> None:
    subject = load_subject("molecule-104", None)
    tilted = PointGroup("D3", (1, 0, 0), (0, 0, 1))
    wrong = structures.Subject(subject.entry, subject.source, subject.atoms, tilted)
    assert min(correlations_under_the_group(wrong)) < 0.9


def test_frame_is_a_rotation_with_the_axes_asked_for() -> None:
    group = PointGroup("D4", (0.0803, 0.0828, 0.9933), (0.7071, -0.7071, 0))
    np.testing.assert_allclose(group.frame @ group.frame.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(group.frame) == pytest.approx(1)
    np.testing.assert_allclose(group.frame @ group.main_axis, [0, 0, 1], atol=1e-3)
    np.testing.assert_allclose(group.frame @ group.twofold_axis, [1, 0, 0], atol=3e-3)


def test_every_entry_is_there(shared_data: Path) -> None:
    folder = structures_folder(shared_data)
    for entry in (*ACCEPTANCE_ENTRIES, *TEST_ENTRIES):
        subject = load_subject(entry.upper(), folder)
        assert len(subject.atoms.positions_angstrom) > 10_000
        assert subject.source == ("validation.npz" if entry in ACCEPTANCE_ENTRIES else "test.npz")


def test_what_is_not_known_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1abc.*is not known"):
        load_subject("1abc", None)
    with pytest.raises(UsageError, match="1qvr needs the folder"):
        load_subject("1qvr", None)
    with pytest.raises(InputError, match=r"validation\.npz"):
        structures_folder(tmp_path)
    with pytest.raises(UsageError, match="--seeds"):
        seeds_of("1,x")
    with pytest.raises(UsageError, match="choose smaller ones"):
        seeds_of(str(2**70))
    assert seeds_of("1, 2 7") == [1, 2, 7]
