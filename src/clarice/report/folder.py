"""Reading a run folder whose files may be missing, unfinished or damaged, without ever failing for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarice.core.errors import ClariceError, InputError
from clarice.io.mrc import MrcSource, read_mrc
from clarice.io.star import read_star
from clarice.pipeline.run_record import RECORD_NAME

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Volume:
    """A map, `values` (L, L, L) float32 with axes (z, y, x)."""

    values: NDArray[np.float32]
    pixel_size_angstrom: float


class RunFiles:
    """The files of one run. What cannot be read counts as missing; `problems` says so (file, sentence)."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder; give the folder that `clarice run … -o` wrote")
        if not (path / RECORD_NAME).exists():
            raise InputError(
                f"{path}: is not a run folder (it has no {RECORD_NAME}); give the folder that `clarice run … -o` wrote"
            )
        self.path = path
        self.problems: list[tuple[str, str]] = []
        self._stars: dict[str, dict[str, pd.DataFrame]] = {}

    def has(self, name: str) -> bool:
        """Whether the run wrote `name`."""
        return (self.path / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """The object in `name`; empty when missing or damaged."""
        if not self.has(name):
            return {}
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._note(name, error)
            return {}
        if isinstance(content, dict):
            return content
        self._note(name, ValueError("it does not hold an object"))
        return {}

    def table(self, name: str, column: str) -> pd.DataFrame | None:
        """The first block of STAR file `name` that has `column`; None when there is none."""
        return next((block for block in self._star(name).values() if column in block.columns), None)

    def volume(self, name: str) -> Volume | None:
        """The map in `name`; None when missing, damaged or not a finite cube."""
        if not self.has(name):
            return None
        try:
            values, pixel_size = read_mrc(self.path / name)
        except (ClariceError, OSError, ValueError) as error:
            self._note(name, error)
            return None
        if values.ndim != 3 or len(set(values.shape)) != 1 or not np.isfinite(values).all():
            self._note(name, ValueError("it is not a cube of finite numbers"))
            return None
        return Volume(np.asarray(values, dtype=np.float32), float(pixel_size))

    def stack_length(self, name: str) -> int:
        """Number of images in `name`; 0 when missing or damaged."""
        source = self._stack(name)
        return 0 if source is None else len(source)

    def images(self, name: str, rows: Sequence[int]) -> NDArray[np.float32] | None:
        """Images `rows` (counted from 0) of stack `name`, (k, L, L); None when missing or damaged."""
        source = self._stack(name)
        if source is None:
            return None
        try:
            return np.nan_to_num(source.read(np.asarray(rows, dtype=np.int64)))
        except (ClariceError, OSError, ValueError, IndexError) as error:
            self._note(name, error)
            return None

    def _star(self, name: str) -> dict[str, pd.DataFrame]:
        if name not in self._stars:
            self._stars[name] = {}
            if self.has(name):
                try:
                    self._stars[name] = dict(read_star(self.path / name))
                except (ClariceError, OSError, ValueError) as error:
                    self._note(name, error)
        return self._stars[name]

    def _stack(self, name: str) -> MrcSource | None:
        if not self.has(name):
            return None
        try:
            return MrcSource.open(self.path / name)
        except (ClariceError, OSError, ValueError) as error:
            self._note(name, error)
            return None

    def _note(self, name: str, error: Exception) -> None:
        if all(noted != name for noted, _ in self.problems):
            self.problems.append((name, f"{name} cannot be read ({error}); its part of this page is left out"))


def column(table: pd.DataFrame | None, name: str) -> FloatArray | None:
    """Finite values of numeric column `name` as float64; None when absent or empty."""
    if table is None or name not in table.columns:
        return None
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    return values if len(values) and np.isfinite(values).all() else None


def numbers(value: Any) -> FloatArray:
    """A JSON list of numbers as float64, None and text as NaN; anything else gives an empty array."""
    if not isinstance(value, list):
        return np.empty(0)
    return np.array([v if isinstance(v, int | float) else np.nan for v in value], dtype=np.float64)


def number(value: Any) -> float | None:
    """A finite JSON number as float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)


def records(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON list; empty for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
