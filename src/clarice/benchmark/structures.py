"""What the protocols are run on: structures by entry, with their symmetry, or procedural molecules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError, UsageError
from clarice.core.seeds import LARGEST_SEED
from clarice.physics.atoms import Atoms, atoms_from_npz
from clarice.physics.molecules import make_molecule

FloatArray = NDArray[np.float64]
Axis = tuple[float, float, float]

ACCEPTANCE_ENTRIES = ("1qvr", "6ahf", "6n8z", "3pei", "2cg9")
TEST_ENTRIES = ("6r7i", "6fsz", "2j8s", "1bxn")
# Test structures beyond those of the main job whose symmetry was looked into.
_FURTHER_ENTRIES = (
    *("4v1w", "pdbdev_00000032", "pdbdev_00000015", "1m4x", "4fz0", "3d2f", "3csl", "2hmf"),
    *("1b5f", "1u7f", "2nq2", "1k74", "1f51", "5a63", "4edz", "4bfi"),
)
_COLLECTION = {
    **dict.fromkeys(ACCEPTANCE_ENTRIES, "validation.npz"),
    **dict.fromkeys((*TEST_ENTRIES, *_FURTHER_ENTRIES), "test.npz"),
}
_MOLECULE_PREFIX = "molecule-"


@dataclass(frozen=True)
class PointGroup:
    """Symmetry of a structure: its group, and the main and a twofold axis in the molecule's coordinates.

    Without a twofold axis (Cn) any direction across the main axis will do. `note` says how exact it is. Where nobody
    looked for it, `known` is False: poses cannot be judged then.
    """

    name: str = "C1"
    main_axis: Axis = (0.0, 0.0, 1.0)
    twofold_axis: Axis | None = None
    note: str = ""
    known: bool = True

    @property
    def frame(self) -> FloatArray:
        """The rotation (3, 3) that takes molecule coordinates to those of `symmetry_rotations(name)`."""
        z = np.asarray(self.main_axis) / np.linalg.norm(self.main_axis)
        across = np.eye(3)[np.argmin(np.abs(z))] if self.twofold_axis is None else np.asarray(self.twofold_axis)
        x = across - (across @ z) * z
        x /= np.linalg.norm(x)
        return np.stack([x, np.cross(z, x), z])

    def in_frame(self, rotations: FloatArray) -> FloatArray:
        """Rotations (n, 3, 3) of the molecule, as rotations of the molecule laid into the group's axes."""
        return np.asarray(rotations @ self.frame.T)


# From superposing the chains of each entry on one another, or, where chains differ, its density on its own turned
# copies; other entries of the protocols have no rotation on to themselves.
POINT_GROUPS = {
    "3pei": PointGroup("D3", (0, 0, 1), (0.8660, 0.5, 0)),
    "2cg9": PointGroup("C2", (-0.2752, 0.9419, -0.1925), note="to 0.3 Å"),
    "2j8s": PointGroup("C3", (0.0132, -0.8020, 0.5972), note="to 3.5 Å: its three chains differ"),
    "1bxn": PointGroup("D4", (0.0803, 0.0828, 0.9933), (0.7071, -0.7071, 0)),
    "4v1w": PointGroup("O", (0, 0, 1), (1, 0, 0)),
    "pdbdev_00000032": PointGroup("C4", (0.001, 0, 1)),
    "pdbdev_00000015": PointGroup("C2", (-0.0689, 0.3281, 0.9421), note="but for side chains"),
    "1m4x": PointGroup("C3", (0.435, 0.887, 0.157)),
    "4fz0": PointGroup("C3", (0.9360, 0.1098, -0.3346), note="but for loops"),
    "2hmf": PointGroup(note="nearly C2"),
    "2nq2": PointGroup("C2", (-0.3305, 0.6884, -0.6457), note="but for loops"),
    "4edz": PointGroup("C2", (0.9951, 0.0836, -0.0527), note="but for loops"),
    "1b5f": PointGroup(note="nearly C2"),
    "1u7f": PointGroup(note="nearly C3"),
    "molecule-104": PointGroup("D3", (0, 0, 1), (1, 0, 0)),
    "molecule-105": PointGroup("C2", (0, 0, 1)),
}
NOT_LOOKED_INTO = PointGroup(note="not looked into", known=False)
# Seeds a protocol takes at most.
_MOST_SEEDS = 10_000
# Stand-ins for the acceptance structures, about as heavy and as symmetric.
_MASS_KDA = {
    "molecule-101": 550.0,
    "molecule-102": 455.0,
    "molecule-103": 450.0,
    "molecule-104": 310.0,
    "molecule-105": 165.0,
}
MOLECULE_ENTRIES = tuple(_MASS_KDA)


@dataclass(frozen=True)
class Subject:
    """A structure a protocol is run on; `source` says where it came from."""

    entry: str
    source: str
    atoms: Atoms
    point_group: PointGroup


def structures_folder(data: Path | None) -> Path | None:
    """The folder of packed structures below (or at) `data`, None where there is none.

    Raises InputError when `data` is given but holds none.
    """
    if data is None:
        return None
    for folder in (data / "structures", data):
        if all((folder / name).is_file() for name in set(_COLLECTION.values())):
            return folder
    raise InputError(
        f"{data} holds no structures/validation.npz and structures/test.npz: "
        "name the folder that does, or pass --molecules to run on procedural molecules"
    )


def group_of(entry: str) -> PointGroup:
    """The point group of an entry of any collection."""
    return POINT_GROUPS.get(entry, PointGroup() if entry in _COLLECTION else NOT_LOOKED_INTO)


def defocus_table(data: Path | None) -> Path | None:
    """The CTF table of EMPIAR-10028 below `data`, None where it is missing: defocus is then drawn from a model."""
    path = None if data is None else data / "formats" / "ctf_EMPIAR-10028_cryodrgn.npz"
    return path if path is not None and path.is_file() else None


def default_entries(folder: Path | None) -> tuple[str, ...]:
    """The acceptance structures, or the procedural molecules that stand in for them."""
    return MOLECULE_ENTRIES if folder is None else ACCEPTANCE_ENTRIES


def load_subject(entry: str, folder: Path | None) -> Subject:
    """The structure named `entry`: `molecule-SEED` is a procedural one, others come from `folder`.

    Raises UsageError for an entry that no protocol knows.
    """
    entry = entry.strip().lower()
    group = POINT_GROUPS.get(entry, PointGroup())
    if entry.startswith(_MOLECULE_PREFIX) and entry.removeprefix(_MOLECULE_PREFIX).isdigit():
        seed = int(entry.removeprefix(_MOLECULE_PREFIX))
        atoms = make_molecule(seed, mass_kda=_MASS_KDA.get(entry, 200.0), symmetry=group.name)
        return Subject(entry, "procedural molecule", atoms, group)
    if entry not in _COLLECTION:
        known = ", ".join(_COLLECTION)
        raise UsageError(f"--entries {entry!r} is not known: use {known} or molecule-SEED")
    if folder is None:
        raise UsageError(f"--entries {entry} needs the folder of structures: pass --data, or use molecule-SEED")
    return Subject(entry, _COLLECTION[entry], atoms_from_npz(folder / _COLLECTION[entry], entry), group)


def words(text: str) -> list[str]:
    """The words of a list separated by commas or blanks."""
    return text.replace(",", " ").split()


def seeds_of(text: str) -> list[int]:
    """The seeds of a list of whole numbers and ranges, as in 1,2 or 1-10, separated by commas or blanks.

    Raises UsageError for anything else, for seeds that are too large and for too many of them.
    """
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", word) for word in words(text)]
    spans = [(int(part[1]), int(part[2] or part[1])) for part in parts if part is not None]
    if not parts or len(spans) < len(parts) or any(first > last for first, last in spans):
        raise UsageError(f"--seeds {text!r} is not a list of whole numbers: write them as in --seeds 1,2 or 1-10")
    if max(last for _, last in spans) >= LARGEST_SEED or sum(last - first for first, last in spans) >= _MOST_SEEDS:
        raise UsageError(f"--seeds {text!r} has a seed of {LARGEST_SEED:,}, or too many: choose smaller ones, or fewer")
    return [seed for first, last in spans for seed in range(first, last + 1)]


def chosen_entries(text: str | None, folder: Path | None) -> Sequence[str]:
    """The entries of `--entries`, or the default ones."""
    return default_entries(folder) if text is None else words(text)
