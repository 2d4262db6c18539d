"""CTF parameters of micrographs, from a STAR file as RELION and CTFFIND leave it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from clarice.core.errors import InputError
from clarice.io.star import floats, read_star, texts

_NAME = "rlnMicrographName"
_DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
_MICROSCOPE = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
_PIXEL_SIZE = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")


@dataclass(frozen=True)
class MicrographCtf:
    """By file name without folder and suffix: defocus U and V in Å, the angle of U in degrees, and a figure of merit.

    `microscope`: kV, mm and amplitude contrast, or None where the file does not say; `pixel_size_angstrom` likewise.
    """

    path: Path
    by_stem: dict[str, tuple[float, float, float, float]]
    microscope: tuple[float, float, float] | None
    pixel_size_angstrom: float | None


def read_micrograph_ctf(path: Path) -> MicrographCtf:
    """Raises InputError when no block has micrographs with their defocus, or a name stands there twice."""
    blocks = read_star(path)
    tables = [block for block in blocks.values() if {_NAME, *_DEFOCUS} <= set(block)]
    if len(tables) != 1:
        raise InputError(f"{path} must have one block with the columns _{_NAME} and _{', _'.join(_DEFOCUS)}")
    table = tables[0]
    stems = [Path(name).stem for name in texts(table, _NAME)]
    seen: set[str] = set()
    for stem in stems:
        if stem in seen:
            raise InputError(f"{path}: two micrographs are named {stem}, so that their CTF cannot be told apart")
        seen.add(stem)
    columns = [floats(table, name, str(path)) for name in _DEFOCUS]
    merit = "rlnCtfFigureOfMerit"
    columns.append(floats(table, merit, str(path)) if merit in table else 0 * columns[0])
    rows = (tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True))
    optics = blocks.get("optics", table)
    constants = [_one_value(path, optics if name in optics else table, name) for name in _MICROSCOPE]
    voltage, aberration, contrast = constants
    microscope = None
    if voltage is not None and aberration is not None and contrast is not None:
        microscope = (voltage, aberration, contrast)
    sizes = [_one_value(path, optics if name in optics else table, name) for name in _PIXEL_SIZE]
    pixel = next((size for size in sizes if size is not None), None)
    return MicrographCtf(path, dict(zip(stems, rows, strict=True)), microscope, pixel)


def _one_value(path: Path, table: pd.DataFrame, name: str) -> float | None:
    if name not in table or len(table) == 0:
        return None
    values = floats(table, name, str(path))
    if (values != values[0]).any():
        raise InputError(f"{path}: _{name} differs between rows; extract micrographs of one kind at a time")
    return float(values[0])
