"""Training structures: a packed collection, sampled by cluster so that no family of proteins dominates."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError
from clarice.physics.atoms import Atoms, packed_atoms, read_collection

_FILE = "train.npz"
# What is needed beside the arrays of every packed collection.
_ARRAYS = ("chain", "cluster")
# What stands for the identity of a collection where there is none.
MOLECULES_ALONE = "procedural molecules alone"
# Atoms below which a structure (about 28 kDa) or a chain (about 7 kDa) is too small to train on alone.
LEAST_ATOMS, LEAST_CHAIN_ATOMS = 2000, 500


def data_folder(given: Path | None) -> Path | None:
    """The folder of real data: `given`, or what the environment's CLARICE_DATA names, or None."""
    if given is not None:
        return given
    named = os.environ.get("CLARICE_DATA", "")
    return Path(named) if named else None


def training_structures(data: Path | None) -> StructureCollection | None:
    """The training structures below (or at) a folder of data, None without a folder.

    Raises InputError when the folder holds none.
    """
    if data is None:
        return None
    for path in (data / "structures" / _FILE, data / _FILE):
        if path.is_file():
            return StructureCollection(path)
    raise InputError(
        f"{data} holds no structures/{_FILE}: name the folder that does, or none to train on procedural molecules"
    )


class StructureCollection:
    """Entries of a packed collection (`.npz`), drawn by cluster: every cluster is as likely as any other.

    Raises InputError when the file is no such collection.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        arrays = read_collection(path, _ARRAYS)
        self.ids = [str(name) for name in arrays["id"]]
        self.cluster: NDArray[np.int64] = arrays["cluster"].astype(np.int64)
        self._arrays = arrays
        atoms = np.diff(arrays["offset"])
        self._whole = self._by_cluster(atoms >= LEAST_ATOMS)
        self._chains = self._by_cluster(atoms >= LEAST_CHAIN_ATOMS)
        if not self._whole or not self._chains:
            raise InputError(f"{path} holds no structure of {LEAST_ATOMS} atoms: give a collection of larger ones")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def identity(self) -> str:
        """Says which collection it is by what it holds, wherever it lies."""
        digest = hashlib.sha256()
        for name, values in sorted(self._arrays.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return f"{len(self)} structures (SHA-256 {digest.hexdigest()[:16]})"

    def _by_cluster(self, fit: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(fit & (self.cluster == name)) for name in np.unique(self.cluster[fit])]

    def draw_entry(self, rng: np.random.Generator) -> int:
        """Index of an entry of at least `LEAST_ATOMS` atoms: a cluster first, then one of its entries."""
        return _member(self._whole, rng)

    def draw_chain(self, rng: np.random.Generator) -> tuple[int, int]:
        """Indices of an entry and of one of its polymer chains, drawn by cluster likewise."""
        entry = _member(self._chains, rng)
        chains = self._long_chains(entry)
        return entry, int(rng.choice(chains)) if len(chains) else -1

    def largest_of_clusters(self, least_atoms: int) -> list[int]:
        """The largest entry of each cluster that has one of so many atoms, the largest first."""
        atoms = np.diff(self._arrays["offset"])
        best = [int(rows[np.argmax(atoms[rows])]) for rows in self._by_cluster(atoms >= least_atoms)]
        return sorted(best, key=lambda entry: (-int(atoms[entry]), entry))

    def _rows(self, entry: int) -> slice:
        offset = self._arrays["offset"]
        return slice(int(offset[entry]), int(offset[entry + 1]))

    def _long_chains(self, entry: int) -> NDArray[np.int64]:
        rows = self._rows(entry)
        chain = self._arrays["chain"][rows][self._arrays["polymer"][rows] > 0]
        names, sizes = np.unique(chain, return_counts=True)
        return names[sizes >= LEAST_CHAIN_ATOMS].astype(np.int64)

    def atoms(self, entry: int, chain: int = -1) -> Atoms:
        """Atoms of an entry, or of one of its chains."""
        rows = self._rows(entry)
        if chain < 0:
            return packed_atoms(self._arrays, rows)
        return packed_atoms(self._arrays, rows.start + np.flatnonzero(self._arrays["chain"][rows] == chain))


def _member(clusters: list[NDArray[np.int64]], rng: np.random.Generator) -> int:
    return int(rng.choice(clusters[int(rng.integers(len(clusters)))]))
