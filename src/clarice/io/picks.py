"""Where particles lie in micrographs: STAR, EMAN's .box, and tables of x and y in pixels."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError
from clarice.core.particles import FloatArray
from clarice.io.micrograph import stem_of
from clarice.io.micrograph_pixel_size import pixel_size_in
from clarice.io.star import floats, read_star, texts

_X_NAMES, _Y_NAMES = (
    ("x", "x_coord", "rlncoordinatex", "_rlncoordinatex"),
    ("y", "y_coord", "rlncoordinatey", "_rlncoordinatey"),
)
_NAMES = ("micrograph", "image_name", "micrograph_name", "rlnmicrographname", "_rlnmicrographname")
_TABLES = (".csv", ".tsv", ".txt", ".coord", ".coords")
_ENDINGS = (".star", ".star.gz", ".box", *_TABLES)
# A row of a text file: the number of its line, counted from 1, and its cells.
_Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Picks:
    """Centres (n, 2) of particles, (x, y) in pixels of the micrograph as its file lies, from the first pixel.

    `micrograph` (n,): the name each belongs to, None where the file is about one micrograph. `pixel_size_angstrom`
    of the micrographs, None where the file does not state it.
    """

    path: Path
    centres_px: FloatArray
    micrograph: NDArray[np.str_] | None
    pixel_size_angstrom: float | None = None

    def __len__(self) -> int:
        return len(self.centres_px)

    def of(self, micrograph: Path) -> FloatArray:
        """Those of the file `micrograph`, (k, 2): names count by their file name without folder and ending.

        Raises InputError where names of several folders or endings count as this one, and no path among them settles
        which it is.
        """
        if self.micrograph is None:
            return self.centres_px
        name = self._name_of(micrograph)
        return np.empty((0, 2)) if name is None else self._by_name[name]

    def left_by(self, micrographs: Iterable[Path]) -> dict[str, int]:
        """How many picks belong to each name that is none of the files `micrographs`."""
        taken = {self._name_of(path) for path in micrographs}
        return {name: len(centres) for name, centres in self._by_name.items() if name not in taken}

    def _name_of(self, micrograph: Path) -> str | None:
        names = self._names_of_stem.get(stem_of(micrograph.name), [])
        if len(names) > 1:
            parts = micrograph.absolute().parts
            within = [name for name in names if parts[-len(PurePath(name).parts) :] == PurePath(name).parts]
            if len(within) != 1:
                raise InputError(
                    f"{self.path} has picks of {' and of '.join(names[:2])}, and which of them {micrograph} is cannot "
                    "be told: keep the rows of one"
                )
            names = within
        return names[0] if names else None

    @cached_property
    def _by_name(self) -> dict[str, FloatArray]:
        if self.micrograph is None or len(self) == 0:
            return {}
        order = np.argsort(self.micrograph, kind="stable")
        names, first = np.unique(self.micrograph[order], return_index=True)
        return dict(zip(names.tolist(), np.split(self.centres_px[order], first[1:]), strict=True))

    @cached_property
    def _names_of_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self._by_name:
            found.setdefault(stem_of(name), []).append(name)
        return found


def picks_stem(path: Path) -> str | None:
    """The name of a file of coordinates without folder and ending; None where its ending is of something else."""
    ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), None)
    return None if ending is None else path.name.removesuffix(ending)


def read_picks(path: Path) -> Picks:
    """The picks of a file. Raises InputError, naming the line, for anything else."""
    if path.name.endswith((".star", ".star.gz")):
        return _of_star(path)
    if path.suffix == ".box":
        rows = _numbers(path, _read_lines(path)[1], (0, 1, 2, 3))
        return Picks(path, rows[:, :2] + rows[:, 2:4] / 2, None)  # corner and size
    if path.suffix in _TABLES:
        return _of_table(path)
    raise InputError(f"{path} is no table of coordinates: use STAR, .box, or .csv with x and y")


def _of_star(path: Path) -> Picks:
    found = read_star(path)
    blocks = [block for block in found.values() if {"rlnCoordinateX", "rlnCoordinateY"} <= set(block)]
    if len(blocks) != 1:
        raise InputError(f"{path} must have one block with the columns _rlnCoordinateX and _rlnCoordinateY")
    x, y = (floats(blocks[0], name, str(path)) for name in ("rlnCoordinateX", "rlnCoordinateY"))
    names = texts(blocks[0], "rlnMicrographName") if "rlnMicrographName" in blocks[0] else None
    return Picks(path, np.stack([x, y], axis=1), names, pixel_size_in(path, found, blocks[0]))


def _of_table(path: Path) -> Picks:
    head, rows = _read_lines(path)
    if head is None:
        return Picks(path, _numbers(path, rows, (0, 1)), None)
    x, y, name = (_column(head, names) for names in (_X_NAMES, _Y_NAMES, _NAMES))
    if x is None or y is None:
        lacking, remedy = ("y", "y or y_coord") if y is None else ("x", "x or x_coord")
        raise InputError(f"{path} has a column of {'x' if y is None else 'y'} but none of {lacking}: name it {remedy}")
    for line, row in rows:
        # Columns after those that are read may be missing, as trailing remarks are.
        if len(row) <= max(x, y, -1 if name is None else name):
            raise InputError(
                f"{path}: line {line} has {len(row)} of the {len(head)} columns that its header names: complete it"
            )
        if name is not None and not row[name].strip():
            raise InputError(f"{path}: line {line} names no micrograph in the column {head[name]}: fill it in")
    names = None if name is None else np.array([row[name].strip() for _, row in rows], dtype=str)
    return Picks(path, _numbers(path, rows, (x, y)), names)


def _column(head: Sequence[str], names: Sequence[str]) -> int | None:
    return next((number for number, cell in enumerate(head) if cell in names), None)


def _read_lines(path: Path) -> tuple[list[str] | None, list[_Row]]:
    """Names of the columns in lower case, None where there are none, and the rows of a text file.

    Cells are split at commas, semicolons, tabs or blanks; comments and empty lines are left out. The names are those
    of the first row, or of a comment before it, which is how many programs write them.
    """
    lines = [(number, line) for number, line in enumerate(_text(path).splitlines(), start=1) if line.strip()]
    rows = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    if not rows:
        raise InputError(f"{path} lists no particle")
    separator = next((mark for mark in (",", ";", "\t") if mark in rows[0][1]), None)
    split = [(number, _cells(path, number, line, separator)) for number, line in rows]
    first = _names(split[0][1])
    if {*_X_NAMES, *_Y_NAMES} & set(first):
        return first, split[1:]
    comments = [(number, line.lstrip().lstrip("#")) for number, line in lines if number < rows[0][0]]
    heads = [_names(_cells(path, number, comment, separator)) for number, comment in comments]
    # Any other comment may speak of x and y too: names are as many as the columns.
    columns = max(len(cells) for _, cells in split)
    named = [head for head in heads if len(head) == columns and {*_X_NAMES} & {*head} and {*_Y_NAMES} & {*head}]
    return (named[-1] if named else None), split


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: coordinates are read from STAR, .box or .csv") from error


def _cells(path: Path, number: int, line: str, separator: str | None) -> list[str]:
    if separator is None or separator not in line:
        return line.split()
    try:
        return next(csv.reader([line], delimiter=separator))
    except csv.Error as error:
        raise InputError(f"{path}: line {number} is no row of a table ({error}): correct it, or take it out") from error


def _names(cells: Iterable[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _numbers(path: Path, rows: Iterable[_Row], columns: Sequence[int]) -> FloatArray:
    """The numbers in `columns` of the rows, (n, len(columns)). Raises InputError, naming the line."""
    found = []
    for line, row in rows:
        if len(row) <= max(columns):
            raise InputError(f"{path}: line {line} has {len(row)} values where {max(columns) + 1} belong: complete it")
        try:
            values = [float(row[column]) for column in columns]
        except ValueError as error:
            raise InputError(
                f"{path}: line {line} ({' '.join(row)[:60]}) holds no numbers where they belong"
            ) from error
        if not np.isfinite(values).all():
            raise InputError(f"{path}: line {line} holds a coordinate that is no number: correct it, or take it out")
        found.append(values)
    return np.array(found, dtype=np.float64).reshape(-1, len(columns))
