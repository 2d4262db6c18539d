"""The structures denoisers are compared on: the largest of each cluster of 40 kDa and more, never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clarice.benchmark.structures import (
    MOLECULE_ENTRIES,
    Subject,
    group_of,
    load_subject,
    structures_folder,
)
from clarice.core.errors import UsageError
from clarice.training.structures import StructureCollection

# 40 kDa at 14.1 Da a non-hydrogen atom.
LEAST_ATOMS = 2840
PROCEDURAL = "procedural molecules"


def choose_subjects(
    entries: Sequence[str] | None, data: Path | None, *, validation: bool = False
) -> tuple[str, list[Subject]]:
    """The collection's name and the structures of it named `entries`, or those the protocol takes.

    Without a folder of data these are procedural molecules. Raises UsageError for an entry that is not there.
    """
    if entries is not None and not entries:
        raise UsageError("--entries names no structure: write them as in --entries 1bxn,2j8s")
    folder = structures_folder(data)
    if folder is None:
        return PROCEDURAL, [load_subject(entry, None) for entry in (MOLECULE_ENTRIES if entries is None else entries)]
    name = "validation.npz" if validation else "test.npz"
    collection = StructureCollection(folder / name)
    if entries is None:
        rows = collection.largest_of_clusters(LEAST_ATOMS)
    else:
        rows = [_row(entry, collection, name) for entry in entries]
    return name, [_subject(collection, row, name) for row in rows]


def _subject(collection: StructureCollection, row: int, name: str) -> Subject:
    entry = collection.ids[row]
    return Subject(entry, name, collection.atoms(row).centred(), group_of(entry.lower()))


def _row(entry: str, collection: StructureCollection, name: str) -> int:
    wanted = entry.strip().lower()
    for row, known in enumerate(collection.ids):
        if known.lower() == wanted:
            return row
    other = "test" if name.startswith("validation") else "--validation"
    raise UsageError(f"--entries {entry!r} is not in {name}: is it one of the {other} structures?")
