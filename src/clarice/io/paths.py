"""From the image names of a table to files: `000012@folder/stack.mrcs` is image 12 of that stack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.counting import counted
from clarice.core.errors import InputError
from clarice.io.refusals import ImagesMissingError


def split_image_names(names: Sequence[str], origin: str) -> tuple[NDArray[np.int64], NDArray[np.int32], list[str]]:
    """Sections (counted from 0), a file number for each row, and the distinct file names in order of
    appearance.

    A name without `@` is the only image of its file. Raises InputError, naming `origin` and the row, for a
    section that is no positive number.
    """
    sections = np.zeros(len(names), dtype=np.int64)
    numbers = np.zeros(len(names), dtype=np.int32)
    files: dict[str, int] = {}
    for row, name in enumerate(names):
        section, at, file = name.partition("@")
        if not at:
            section, file = "1", name
        if not (section.isascii() and section.isdigit()) or not 0 < int(section) < 2**31 or not file:
            raise InputError(
                f"{origin}: the image name in row {row + 1}, {name[:80]!r}, is not of the form 12@stack.mrcs"
            )
        sections[row] = int(section) - 1
        numbers[row] = files.setdefault(file, len(files))
    return sections, numbers, list(files)


def resolve_files(names: Iterable[str], table_path: Path, root: Path | None, particles: int) -> list[Path]:
    """The file each name means. With `root`: below it, by its whole path or its last part. Otherwise beside
    the
    table, in the folders above the table (a project folder), or in the working folder.

    Raises InputError that names every place tried, or two names that would mean the same file.
    """
    found: dict[str, Path] = {}
    for name in names:
        places = _places(name.removeprefix(">"), table_path, root)
        existing = next((place for place in places if _is_file(place)), None)
        if existing is None:
            tried = ", ".join(str(place) for place in places)
            raise ImagesMissingError(
                f"{table_path} lists {counted(particles, 'particle')}, but the image file {name} was not found "
                f"(tried {tried}); pass --root "
                "with its folder"
            )
        found[name] = existing
    _refuse_shared(found, table_path)
    return list(found.values())


def _places(name: str, table_path: Path, root: Path | None) -> list[Path]:
    path = Path(name)
    if root is not None:
        inside = [] if path.is_absolute() else [root / path]
        return list(dict.fromkeys([*inside, root / path.name, *([path] if path.is_absolute() else [])]))
    if path.is_absolute():
        return [path]
    folder = table_path.absolute().parent
    return list(dict.fromkeys([folder / path, Path.cwd() / path, *(above / path for above in folder.parents)]))[:6]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _refuse_shared(found: dict[str, Path], table_path: Path) -> None:
    meaning: dict[str, str] = {}
    for name, path in found.items():
        other = meaning.setdefault(os.path.normpath(path), name)
        if os.path.normpath(other.removeprefix(">")) != os.path.normpath(name.removeprefix(">")):
            raise InputError(
                f"{table_path}: {other} and {name} both lead to {path}; pass a --root that holds their folders"
            )


def name_from(image_file: Path, table_path: Path) -> str:
    """How a table names an image file: relative to the table's folder when it lies in or below it."""
    file = Path(os.path.abspath(image_file))
    folder = Path(os.path.abspath(table_path)).parent
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def keeps_meaning(name: str, image_file: Path, table_path: Path) -> bool:
    """Whether `name`, written into a table at `table_path`, still leads to `image_file`."""
    for place in _places(name.removeprefix(">"), table_path, None):
        if _is_file(place):
            return place.samefile(image_file)
    return False
