"""Which pixel size of its micrographs a STAR file states."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from clarice.core.errors import InputError
from clarice.io.star import StarBlocks, floats

# RELION's own size of a micrograph comes before that of its movie, from which it differs where that was binned.
_PIXEL_SIZE = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
_DETECTOR_UM, _MAGNIFICATION = "rlnDetectorPixelSize", "rlnMagnification"


def pixel_size_in(path: Path, blocks: StarBlocks, table: pd.DataFrame) -> float | None:
    """Å, from the optics block or from `table`, the block with the rows; None where neither states it.

    RELION 3.0 gives the detector's and a magnification. Raises InputError for several sizes, or one not above 0.
    """
    size = next((size for name in _PIXEL_SIZE if (size := one_value(path, blocks, table, name)) is not None), None)
    if size is None:
        detector, magnification = (one_value(path, blocks, table, name) for name in (_DETECTOR_UM, _MAGNIFICATION))
        if detector is None or not magnification:
            return None
        size = detector * 1e4 / magnification
    if not size > 0:
        raise InputError(f"{path} states a pixel size of {size:g} Å: correct it to a positive number")
    return size


def one_value(path: Path, blocks: StarBlocks, table: pd.DataFrame, name: str) -> float | None:
    """The value that column `name` has in all rows of the optics block, or of `table`; None without that column.

    Raises InputError where rows differ.
    """
    optics = blocks.get("optics", table)
    rows = optics if name in optics else table
    if name not in rows or len(rows) == 0:
        return None
    values = floats(rows, name, str(path))
    if (values != values[0]).any():
        raise InputError(f"{path}: _{name} differs between rows; extract micrographs of one kind at a time")
    return float(values[0])
