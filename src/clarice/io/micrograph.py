"""Micrographs: one grey image from an MRC, TIFF or PNG file, rows as they lie in the file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from clarice.core.errors import InputError
from clarice.io.mrc import read_mrc

SUFFIXES = (".mrc", ".mrcs", ".rec", ".tif", ".tiff", ".png")
# Larger images are taken for damaged files.
_MOST_PIXELS = 2**30


@dataclass(frozen=True)
class Micrograph:
    """`image` (H, W) float32, axes (y, x); `pixel_size_angstrom` where the file states it."""

    path: Path
    image: NDArray[np.float32]
    pixel_size_angstrom: float | None


def read_micrograph(path: Path) -> Micrograph:
    """Raises InputError when the file is unreadable, holds several images or colours, or NaN."""
    if path.suffix.lower() in (".mrc", ".mrcs", ".rec"):
        values, pixel = read_mrc(path)
        if values.ndim == 3 and len(values) == 1:
            values = values[0]
        if values.ndim != 2:
            raise InputError(f"{path} holds {len(values)} images: average its frames first, one micrograph to a file")
        found = Micrograph(path, np.ascontiguousarray(values, dtype=np.float32), pixel if pixel and pixel > 0 else None)
    else:
        found = Micrograph(path, _read_picture(path), None)
    if not np.isfinite(found.image).all():
        raise InputError(f"{path} holds values that are no numbers (NaN or infinite): correct the micrograph first")
    return found


def _read_picture(path: Path) -> NDArray[np.float32]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # micrographs are large
            with Image.open(path) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise InputError(f"{path} states {picture.width} × {picture.height} pixels: it may be damaged")
                if getattr(picture, "n_frames", 1) > 1:
                    raise InputError(f"{path} holds {picture.n_frames} images: average its frames first")  # type: ignore[attr-defined]
                values = np.asarray(picture)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read as an image: use MRC, TIFF or PNG") from error
    if values.ndim != 2:
        raise InputError(f"{path} is a picture in colour: a micrograph has one grey value a pixel")
    return values.astype(np.float32)
