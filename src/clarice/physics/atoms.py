"""Atomic structures: the scatterers, their form factors, and the files they are read from.

Readers leave out waters and hydrogens, keep the first of alternative conformations, and build biological
assembly 1 where the file defines one. A residue given by its Cα (or P) atom alone becomes one pseudo-atom
that scatters like the whole residue.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from clarice.core.errors import InputError

# Scattering at zero frequency per Dalton of a residue, hydrogens left out: 0.163–0.183 Å/Da over the amino
# acids and nucleotides.
_SCATTERING_PER_DALTON = 0.168
_WATER_DALTON = 18.0
_MEAN_RESIDUE_DALTON = {"CA": 111.0, "P": 321.0}
# 8π²σ² of a residue's atoms about its Cα (rms radius 2.3 Å) and of a nucleotide's about its P (4 Å).
_RESIDUE_B_FACTOR = {"CA": 139.0, "P": 421.0}
_TRACE_ELEMENT = {"CA": 6, "P": 15}
# What a packed collection of structures holds.
_ARRAYS = ("id", "offset", "xyz_hundredth_angstrom", "atomic_number", "b_factor", "polymer")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Atoms:
    """n scatterers: `positions_angstrom` (n, 3) in (x, y, z), `atomic_number` (n,), `b_factor` (n,) in Å².

    `weight` (n,) multiplies the form factor: 1 for an atom, more for a pseudo-atom that stands for a residue.
    """

    positions_angstrom: FloatArray
    atomic_number: NDArray[np.int64]
    b_factor: FloatArray
    weight: FloatArray

    @classmethod
    def of(
        cls,
        positions_angstrom: FloatArray,
        atomic_number: NDArray[np.int64],
        b_factor: FloatArray,
        weight: FloatArray | None = None,
    ) -> Atoms:
        """Atoms with unit weights unless given."""
        count = len(positions_angstrom)
        return cls(
            np.asarray(positions_angstrom, dtype=np.float64).reshape(count, 3),
            np.asarray(atomic_number, dtype=np.int64),
            np.asarray(b_factor, dtype=np.float64),
            np.ones(count) if weight is None else np.asarray(weight, dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.positions_angstrom)

    def scattering_mass(self) -> FloatArray:
        """Form factor of each atom at zero frequency, (n,), Å: what the potential integrates to."""
        numbers, inverse = np.unique(self.atomic_number, return_inverse=True)
        at_zero = np.array([form_factor(int(number), np.zeros(1))[0] for number in numbers])
        return np.asarray(at_zero[inverse] * self.weight)

    def centred(self) -> Atoms:
        """The same atoms with their scattering mass centred on the origin."""
        mass = self.scattering_mass()
        centre = mass @ self.positions_angstrom / mass.sum()
        return Atoms(self.positions_angstrom - centre, self.atomic_number, self.b_factor, self.weight)

    def rotated(self, rotation: FloatArray) -> Atoms:
        """The same atoms at `rotation @ position`."""
        return Atoms(self.positions_angstrom @ rotation.T, self.atomic_number, self.b_factor, self.weight)

    def diameter_angstrom(self) -> float:
        """Largest distance between two atoms, Å."""
        points = self.positions_angstrom
        if len(points) > 50:
            try:
                points = points[ConvexHull(points).vertices]
            except QhullError:  # flat structures have no hull in space; all pairs are still right
                points = points[:: max(1, len(points) // 4000)]
        return float(pdist(points).max()) if len(points) > 1 else 0.0


def form_factor(atomic_number: int, frequency_per_angstrom: FloatArray) -> FloatArray:
    """Electron scattering factor in Å at spatial frequencies s = 1/d (1/Å), without B-factor."""
    table = gemmi.Element(atomic_number).c4322
    amplitude, width = np.array(table.a), np.array(table.b)
    return np.asarray(np.exp(-np.square(frequency_per_angstrom)[..., None] * width / 4) @ amplitude)


def _trace_weight(atom_name: str, residue_dalton: float) -> float:
    """Weight of a Cα or P pseudo-atom that scatters like a residue of that mass."""
    of_atom = form_factor(_TRACE_ELEMENT[atom_name], np.zeros(1))[0]
    return float(_SCATTERING_PER_DALTON * residue_dalton / of_atom)


def read_structure(path: Path | str) -> Atoms:
    """Atoms of the first model of an mmCIF or PDB file (also gzipped).

    Raises InputError when the file is missing, is neither format, or holds no atoms.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"structure file {path} does not exist: give the path of an mmCIF or PDB file")
    structure = _parse(path)
    if len(structure) == 0:
        raise InputError(f"{path} holds no atoms: give an mmCIF or PDB file with atomic coordinates")
    structure.remove_waters()
    structure.remove_hydrogens()
    structure.remove_alternative_conformations()
    if any(assembly.name == "1" for assembly in structure.assemblies):
        structure.transform_to_assembly("1", gemmi.HowToNameCopiedChain.Dup)
    rows = [row for chain in structure[0] for residue in chain for row in _residue_rows(residue)]
    if not rows:
        raise InputError(f"{path} holds no atoms besides water and hydrogen: give a structure with atoms")
    table = np.array(rows)
    if not np.all(np.isfinite(table)):
        raise InputError(f"{path} holds atoms whose coordinates are not numbers: mend or remove those atoms")
    return Atoms(table[:, :3], table[:, 3].astype(np.int64), table[:, 4], table[:, 5])


def _parse(path: Path) -> gemmi.Structure:
    """The file as gemmi reads it; told apart by content, because names and compression of archives vary."""
    try:
        content = path.read_bytes()
        while content[:2] == b"\x1f\x8b":  # some archives compress twice
            content = gzip.decompress(content)
        text = content.decode("utf-8")
        if "_atom_site." in text:
            return gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
        return gemmi.read_pdb_string(text)
    except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"{path} cannot be read as mmCIF or PDB ({reason}): give a .cif, .pdb or .gz of one"
        raise InputError(message) from error


def _residue_rows(residue: gemmi.Residue) -> list[tuple[float, ...]]:
    """(x, y, z, atomic number, B-factor, weight) of a residue's atoms."""
    name = residue[0].name if len(residue) == 1 else ""
    if name in _TRACE_ELEMENT and residue[0].element.atomic_number == _TRACE_ELEMENT[name]:
        tabulated = gemmi.find_tabulated_residue(residue.name)
        known = tabulated is not None and tabulated.weight > _WATER_DALTON
        dalton = tabulated.weight - _WATER_DALTON if known else _MEAN_RESIDUE_DALTON[name]
        weight, extra_b = _trace_weight(name, dalton), _RESIDUE_B_FACTOR[name]
    else:
        weight, extra_b = 1.0, 0.0
    return [
        (
            atom.pos.x,
            atom.pos.y,
            atom.pos.z,
            float(atom.element.atomic_number),
            max(0.0, atom.b_iso) + extra_b,
            atom.occ * weight,
        )
        for atom in residue
        if atom.element.atomic_number > 0
    ]


def entry_ids(path: Path | str) -> list[str]:
    """The entries of a packed collection.

    Raises InputError when the file is not one.
    """
    return [str(name) for name in read_collection(Path(path))["id"]]


def read_collection(path: Path, more: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of a packed collection (`.npz`), with those named `more` beside the ones that each holds.

    Raises InputError when the file is not one.
    """
    needed = (*_ARRAYS, *more)
    if not path.is_file():
        raise InputError(f"structure collection {path} does not exist: give the path of an .npz of entries")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in needed if name not in archive]
            if missing:
                raise InputError(f"{path} has no array {missing[0]!r}: a collection holds {', '.join(needed)}")
            return {name: archive[name] for name in needed}
    except (ValueError, TypeError, OSError, EOFError, KeyError, AttributeError, BadZipFile, zlib.error) as error:
        message = f"{path} cannot be read as an .npz collection of structures: give an intact file"
        raise InputError(message) from error


def atoms_from_npz(path: Path | str, entry_id: str) -> Atoms:
    """Atoms of one entry of a packed collection (see `entry_ids` and `packed_atoms`).

    Raises InputError when no such entry is there.
    """
    path = Path(path)
    collection = read_collection(path)
    found = np.flatnonzero(np.char.lower(collection["id"].astype(str)) == entry_id.strip().lower())
    if len(found) == 0:
        some = ", ".join(str(name) for name in collection["id"][:8])
        count = len(collection["id"])
        raise InputError(f"{path} holds no entry {entry_id!r}: choose one of its {count} ({some}, …)")
    return packed_atoms(collection, slice(int(collection["offset"][found[0]]), int(collection["offset"][found[0] + 1])))


def packed_atoms(collection: Mapping[str, NDArray[Any]], rows: slice | NDArray[np.int64]) -> Atoms:
    """The atoms in `rows` of a collection's arrays: an entry's, or those of one of its chains.

    Polymers of Cα and P atoms only become residue pseudo-atoms.
    """
    number = collection["atomic_number"][rows].astype(np.int64)
    b_factor = collection["b_factor"][rows].astype(np.float64)
    polymer = collection["polymer"][rows]
    weight = np.ones(len(number))
    # All-atom polymers always hold nitrogen; a trace has only carbon and phosphorus.
    if not np.any((polymer > 0) & (number == 7)):
        for kind, name in ((1, "CA"), (2, "P")):
            trace = (polymer == kind) & (number == _TRACE_ELEMENT[name])
            weight[trace] = _trace_weight(name, _MEAN_RESIDUE_DALTON[name])
            b_factor[trace] += _RESIDUE_B_FACTOR[name]
    return Atoms(collection["xyz_hundredth_angstrom"][rows] / 100.0, number, b_factor, weight)
