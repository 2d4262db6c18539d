"""Structures read from files, and what they scatter."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from clarice.core.errors import InputError
from clarice.physics.atoms import Atoms, atoms_from_npz, entry_ids, form_factor, read_structure

PDB = """\
ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00 10.00           N
ATOM      2  CA AALA A   1      11.639   6.071  -5.147  0.60 12.00           C
ATOM      3  CA BALA A   1      11.739   6.171  -5.247  0.40 12.00           C
ATOM      4  HA  ALA A   1      12.000   6.000  -5.000  1.00 12.00           H
ATOM      5  O   ALA A   1      13.000   6.500  -4.900  1.00 14.00           O
HETATM    6  O   HOH A   2      20.000  20.000  20.000  1.00 30.00           O
END
"""
TRACE = """\
ATOM      1  CA  GLY A   1       0.000   0.000   0.000  1.00 10.00           C
ATOM      2  CA  TRP A   2       3.800   0.000   0.000  1.00 10.00           C
END
"""


def make_collection(path: Path) -> Path:
    np.savez(
        path,
        id=np.array(["1abc", "2xyz"]),
        offset=np.array([0, 3, 5]),
        xyz_hundredth_angstrom=np.array(
            [[100, 0, 0], [0, 250, 0], [0, 0, -50], [380, 0, 0], [0, 0, 0]], dtype=np.int16
        ),
        atomic_number=np.array([7, 6, 8, 6, 15], dtype=np.uint8),
        b_factor=np.array([10, 20, 30, 0, 0], dtype=np.uint8),
        polymer=np.array([1, 1, 1, 1, 2], dtype=np.uint8),
    )
    return path


def test_waters_hydrogens_and_second_conformations_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.pdb"
    path.write_text(PDB)
    atoms = read_structure(path)
    assert atoms.atomic_number.tolist() == [7, 6, 8]
    np.testing.assert_allclose(atoms.positions_angstrom[1], [11.639, 6.071, -5.147], atol=1e-6)
    np.testing.assert_allclose(atoms.b_factor, [10, 12, 14])


def test_mmcif_pdb_and_gzip_in_gzip_read_alike(tmp_path: Path) -> None:
    pdb, cif = tmp_path / "a.pdb", tmp_path / "a.cif"
    pdb.write_text(PDB)
    structure = gemmi.read_structure(str(pdb))
    structure.setup_entities()
    cif.write_text(structure.make_mmcif_document().as_string())
    twice = tmp_path / "a.cif.gz"
    twice.write_bytes(gzip.compress(gzip.compress(cif.read_bytes())))
    expected = read_structure(pdb)
    for path in (cif, twice):
        np.testing.assert_allclose(read_structure(path).positions_angstrom, expected.positions_angstrom, atol=1e-3)


def test_a_lone_alpha_carbon_scatters_like_its_residue(tmp_path: Path) -> None:
    path = tmp_path / "trace.pdb"
    path.write_text(TRACE)
    glycine, tryptophan = read_structure(path).scattering_mass()
    # C2 N O of glycine, C11 N2 O of tryptophan.
    carbon, nitrogen, oxygen = (form_factor(number, np.zeros(1))[0] for number in (6, 7, 8))
    assert glycine == pytest.approx(2 * carbon + nitrogen + oxygen, rel=0.1)
    assert tryptophan == pytest.approx(11 * carbon + 2 * nitrogen + oxygen, rel=0.1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdb", b"no atoms here\n"),
        ("a.cif", b"_atom_site.\x80"),
        ("a.gz", b"\x1f\x8bjunk"),
        ("b.cif", b"loop_\n_atom_site.x\n"),
    ],
)
def test_unreadable_files_are_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_structure(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_structure(tmp_path / "none.cif")
    with pytest.raises(InputError, match="does not exist"):
        atoms_from_npz(tmp_path / "none.npz", "1abc")


def test_entries_of_a_collection(tmp_path: Path) -> None:
    path = make_collection(tmp_path / "c.npz")
    assert entry_ids(path) == ["1abc", "2xyz"]
    atoms = atoms_from_npz(path, "1ABC")
    np.testing.assert_allclose(atoms.positions_angstrom, [[1, 0, 0], [0, 2.5, 0], [0, 0, -0.5]])
    np.testing.assert_allclose(atoms.weight, 1)
    trace = atoms_from_npz(path, "2xyz")
    assert np.all(trace.weight > 5)
    assert np.all(trace.b_factor > 100)
    with pytest.raises(InputError, match="3def"):
        atoms_from_npz(path, "3def")


def test_a_collection_without_its_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", id=np.array(["1abc"]))
    with pytest.raises(InputError, match="offset"):
        atoms_from_npz(tmp_path / "c.npz", "1abc")
    (tmp_path / "d.npz").write_bytes(b"PK junk")
    with pytest.raises(InputError, match=r"d\.npz"):
        entry_ids(tmp_path / "d.npz")


def test_diameter_is_the_largest_distance() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 10, (300, 3))
    atoms = Atoms.of(points, np.full(300, 6), np.zeros(300))
    expected = np.linalg.norm(points[:, None] - points[None], axis=-1).max()
    assert atoms.diameter_angstrom() == pytest.approx(expected)
    flat = Atoms.of(points * [1, 1, 0], np.full(300, 6), np.zeros(300))
    assert flat.diameter_angstrom() > 0


def test_real_structures_read(shared_data: Path) -> None:
    folder = shared_data / "structures"
    ferritin = read_structure(folder / "originals" / "4v1w.cif.gz")
    packed = atoms_from_npz(folder / "test.npz", "4v1w")
    assert len(ferritin) == len(packed)
    assert ferritin.diameter_angstrom() == pytest.approx(packed.diameter_angstrom(), abs=0.1)
    assert len(read_structure(folder / "originals" / "PDBDEV_00000032_HCN.cif.gz")) == 16176
    model = read_structure(shared_data / "particles" / "bioem_tutorial" / "Model.pdb")
    assert model.weight.mean() > 5
