"""Training structures: drawn by cluster, and nothing of what is validated or tested on among them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clarice.core.errors import InputError
from clarice.physics.atoms import atoms_from_npz
from clarice.training.structures import StructureCollection, data_folder, training_structures

CHAIN = 600


@pytest.fixture
def collection(tmp_path: Path) -> StructureCollection:
    """Ten entries of one family and one of another, each of four chains of protein and a few ligands."""
    entries, chains = 11, 4
    rng = np.random.default_rng(1)
    atoms = entries * (chains * CHAIN + 20)
    of_entry = np.repeat(np.arange(chains + 1), [CHAIN] * chains + [20])
    np.savez(
        tmp_path / "train.npz",
        id=np.array([f"e{number}" for number in range(entries)]),
        offset=np.arange(entries + 1) * (chains * CHAIN + 20),
        xyz_hundredth_angstrom=rng.normal(0, 2000, (atoms, 3)).astype(np.int16),
        atomic_number=np.full(atoms, 7, dtype=np.uint8),
        b_factor=np.full(atoms, 30, dtype=np.uint8),
        chain=np.tile(of_entry, entries).astype(np.uint16),
        polymer=np.tile(of_entry < chains, entries).astype(np.uint8),
        cluster=np.array([0] * 10 + [1]),
    )
    return StructureCollection(tmp_path / "train.npz")


def test_families_are_drawn_alike_however_many_entries_they_have(collection: StructureCollection) -> None:
    rng = np.random.default_rng(2)
    whole = Counter(collection.draw_entry(rng) for _ in range(600))
    chains = Counter(collection.draw_chain(rng)[0] for _ in range(600))
    for drawn in (whole, chains):
        assert drawn[10] == pytest.approx(300, abs=50)
        assert min(drawn[entry] for entry in range(10)) > 10


def test_a_chain_is_a_polymer_of_its_entry(collection: StructureCollection) -> None:
    rng = np.random.default_rng(2)
    drawn = [collection.draw_chain(rng) for _ in range(40)]
    assert {chain for _, chain in drawn} == {0, 1, 2, 3}
    assert len(collection.atoms(*drawn[0])) == CHAIN


def test_atoms_are_those_of_the_entry(collection: StructureCollection) -> None:
    same = atoms_from_npz(collection.path, "e7")
    found = collection.atoms(7)
    assert np.array_equal(found.positions_angstrom, same.positions_angstrom)
    assert np.array_equal(found.b_factor, same.b_factor)


def test_the_largest_of_each_cluster(collection: StructureCollection) -> None:
    assert collection.largest_of_clusters(1000) == [0, 10]
    assert collection.largest_of_clusters(10_000) == []


def test_no_cluster_dominates_real_structures(shared_data: Path) -> None:
    structures = training_structures(shared_data)
    assert structures is not None
    rng = np.random.default_rng(2)
    drawn = Counter(int(structures.cluster[structures.draw_chain(rng)[0]]) for _ in range(3000))
    assert len(drawn) > 150
    assert max(drawn.values()) < 0.02 * 3000


def test_nothing_that_is_judged_on_is_trained_on(shared_data: Path) -> None:
    structures = training_structures(shared_data)
    assert structures is not None
    assert structures.path.name == "train.npz"
    for name in ("validation.npz", "test.npz"):
        with np.load(shared_data / "structures" / name) as held_out:
            assert not set(held_out["id"].astype(str)) & set(structures.ids)
            assert not set(held_out["cluster"]) & set(structures.cluster)


def test_where_data_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLARICE_DATA", raising=False)
    assert data_folder(None) is None
    monkeypatch.setenv("CLARICE_DATA", str(tmp_path))
    assert data_folder(None) == tmp_path
    assert data_folder(tmp_path / "given") == tmp_path / "given"
    assert training_structures(None) is None


def test_folders_and_files_that_will_not_do_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no structures"):
        training_structures(tmp_path)
    (tmp_path / "train.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="cannot be read"):
        training_structures(tmp_path)
