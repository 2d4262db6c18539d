"""Training structures: drawn by cluster, and nothing of what is validated or tested on among them."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from clarice.core.errors import InputError
from clarice.physics.atoms import atoms_from_npz, entry_ids
from clarice.physics.defocus import read_defocus_table
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
    assert np.array_equal(found.weight, np.ones(len(same)))


def test_an_entry_of_alpha_carbons_is_one_of_residues(collection: StructureCollection, tmp_path: Path) -> None:
    with np.load(collection.path) as archive:
        arrays = dict(archive)
    arrays["atomic_number"][arrays["offset"][7] : arrays["offset"][8]] = 6
    np.savez(tmp_path / "traces.npz", **arrays)
    traces = StructureCollection(tmp_path / "traces.npz")
    same = atoms_from_npz(traces.path, "e7")
    found = traces.atoms(7)
    assert np.array_equal(found.weight, same.weight)
    assert np.array_equal(found.b_factor, same.b_factor)
    chain = traces.atoms(7, 2)
    assert len(chain) == CHAIN
    assert chain.weight.min() > 5
    assert np.array_equal(traces.atoms(6, 2).weight, np.ones(CHAIN))


def test_a_collection_is_known_by_what_it_holds(collection: StructureCollection, tmp_path: Path) -> None:
    with np.load(collection.path) as archive:
        arrays = dict(archive)
    np.savez_compressed(tmp_path / "packed.npz", **dict(reversed(arrays.items())))
    assert StructureCollection(tmp_path / "packed.npz").identity == collection.identity
    assert collection.identity.startswith("11 structures")
    arrays["b_factor"][100] += 1
    np.savez(tmp_path / "other.npz", **arrays)
    assert StructureCollection(tmp_path / "other.npz").identity != collection.identity


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


@pytest.mark.parametrize("read", [StructureCollection, entry_ids, read_defocus_table])
def test_archives_cut_short_or_damaged_are_one_sentence(
    read: Callable[[Path], object], collection: StructureCollection, tmp_path: Path
) -> None:
    with np.load(collection.path) as archive:
        arrays = dict(archive)
    names = np.array(["DefU", "DefV", "DefAng"])
    path = tmp_path / "packed.npz"
    np.savez_compressed(path, **arrays, columns=names, ctf=np.random.default_rng(1).normal(size=(3000, 3)))
    whole = path.read_bytes()
    read(path)
    (tmp_path / "packed.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"packed\.npz"):
        read(path)
    offset = {entry.filename: entry.header_offset for entry in ZipFile(BytesIO(whole)).infolist()}
    first = offset["ctf.npy" if read is read_defocus_table else "id.npy"]
    # After the entry's header, name and extra field the compressed bytes begin: this is no block of them.
    start = first + 30 + sum(struct.unpack("<HH", whole[first + 26 : first + 30]))
    path.write_bytes(whole[:start] + b"\xff\xff\xff\xff" + whole[start + 4 :])
    with pytest.raises(InputError, match=r"packed\.npz"):
        read(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))  # one array, and no archive of several
    with pytest.raises(InputError, match=r"packed\.npz"):
        read(path)


def test_folders_and_files_that_will_not_do_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no structures"):
        training_structures(tmp_path)
    (tmp_path / "train.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="cannot be read"):
        training_structures(tmp_path)
