"""Where particles lie in micrographs: STAR, EMAN's .box, and tables of x and y in pixels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError
from clarice.io.star import floats, read_star, texts

FloatArray = NDArray[np.float64]
_X_NAMES, _Y_NAMES = (
    ("x", "x_coord", "rlncoordinatex", "_rlncoordinatex"),
    ("y", "y_coord", "rlncoordinatey", "_rlncoordinatey"),
)
_NAMES = ("micrograph", "image_name", "micrograph_name", "rlnmicrographname")
_TABLES = (".csv", ".tsv", ".txt", ".coord", ".coords")


@dataclass(frozen=True)
class Picks:
    """Centres (n, 2) of particles, (x, y) in pixels of the micrograph as its file lies, from the first pixel.

    `micrograph` (n,): the name each belongs to, None where the file is about one micrograph.
    """

    path: Path
    centres_px: FloatArray
    micrograph: NDArray[np.str_] | None

    def __len__(self) -> int:
        return len(self.centres_px)

    def of(self, stem: str) -> FloatArray:
        """Those of the micrograph with the file name `stem`, without folder and suffix."""
        if self.micrograph is None:
            return self.centres_px
        stems = np.array([Path(name).stem for name in self.micrograph])
        return self.centres_px[stems == stem]


def read_picks(path: Path) -> Picks:
    """The picks of a file. Raises InputError, naming the row, for anything else."""
    if path.name.endswith((".star", ".star.gz")):
        return _of_star(path)
    if path.suffix == ".box":
        rows = _numbers(path, _rows(path), 4)
        return Picks(path, rows[:, :2] + rows[:, 2:4] / 2, None)  # corner and size
    if path.suffix in _TABLES:
        return _of_table(path)
    raise InputError(f"{path} is no table of coordinates: use STAR, .box, or .csv with x and y")


def _of_star(path: Path) -> Picks:
    blocks = [block for block in read_star(path).values() if {"rlnCoordinateX", "rlnCoordinateY"} <= set(block)]
    if len(blocks) != 1:
        raise InputError(f"{path} must have one block with the columns _rlnCoordinateX and _rlnCoordinateY")
    x, y = (floats(blocks[0], name, str(path)) for name in ("rlnCoordinateX", "rlnCoordinateY"))
    names = texts(blocks[0], "rlnMicrographName") if "rlnMicrographName" in blocks[0] else None
    return Picks(path, _finite(path, np.stack([x, y], axis=1)), names)


def _of_table(path: Path) -> Picks:
    rows = _rows(path)
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not any(cell in _X_NAMES for cell in head):
        return Picks(path, _numbers(path, rows, 2)[:, :2], None)
    x, y, name = (_column(head, names) for names in (_X_NAMES, _Y_NAMES, _NAMES))
    if x is None or y is None:
        raise InputError(f"{path} has a column of x but none of y: name it y or y_coord")
    picked = [[row[x], row[y]] if len(row) > max(x, y) else row for row in rows[1:]]
    names = None if name is None else np.array([row[name] if len(row) > name else "" for row in rows[1:]], dtype=str)
    return Picks(path, _numbers(path, picked, 2, first=2), names)


def _column(head: Sequence[str], names: Sequence[str]) -> int | None:
    return next((number for number, cell in enumerate(head) if cell in names), None)


def _rows(path: Path) -> list[list[str]]:
    """The rows of a text file, less comments and empty ones, split at commas, semicolons, tabs or blanks."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: coordinates are read from STAR, .box or .csv") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise InputError(f"{path} lists no particle")
    separator = next((mark for mark in (",", ";", "\t") if mark in lines[0]), None)
    return [next(csv.reader([line], delimiter=separator)) if separator else line.split() for line in lines]


def _numbers(path: Path, rows: Sequence[Sequence[str]], least: int, first: int = 1) -> FloatArray:
    found = []
    for number, row in enumerate(rows, start=first):
        try:
            values = [float(cell) for cell in row[:least]]
        except ValueError as error:
            raise InputError(f"{path}: row {number} ({' '.join(row)[:60]}) is not a pair of numbers") from error
        if len(values) < least:
            raise InputError(f"{path}: row {number} has {len(values)} numbers where {least} belong")
        found.append(values)
    return _finite(path, np.array(found, dtype=np.float64).reshape(-1, least))


def _finite(path: Path, values: FloatArray) -> FloatArray:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise InputError(f"{path}: row {bad[0] + 1} holds a coordinate that is no number")
    return values
