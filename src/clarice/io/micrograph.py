"""Micrographs: one grey image from an MRC, TIFF or PNG file, rows as they lie in the file."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from clarice.core.errors import InputError
from clarice.io.mrc import inspect_mrc, read_mrc

_MRC = (".mrc", ".mrcs", ".rec")
SUFFIXES = (*_MRC, ".tif", ".tiff", ".png")
# What tables may name in place of the file that is read: movies, and images of other programs.
_OTHER_SUFFIXES = (".eer", ".dm3", ".dm4", ".hdf", ".spi", ".jpg", ".jpeg")
# Larger images are taken for damaged files.
_MOST_PIXELS = 2**30


def stem_of(name: str) -> str:
    """The name of a micrograph without folder and ending; dots that begin no ending of an image stay."""
    path = PurePath(name)
    return path.stem if path.suffix.lower() in (*SUFFIXES, *_OTHER_SUFFIXES) else path.name


def stated_pixel_size(path: Path) -> float | None:
    """The pixel size in Å that the header of an MRC file states; None where it states none, and for pictures."""
    return inspect_mrc(path).pixel_size_angstrom if path.suffix.lower() in _MRC else None


def read_micrograph(path: Path) -> NDArray[np.float32]:
    """The image (H, W), axes (y, x). Raises InputError when the file is unreadable, or holds several images, colours or
    NaN.
    """
    image = _read_section(path) if path.suffix.lower() in _MRC else _read_picture(path)
    if not np.isfinite(image).all():
        raise InputError(f"{path} holds values that are no numbers (NaN or infinite): correct the micrograph first")
    return image


def _read_section(path: Path) -> NDArray[np.float32]:
    # The size does not change the image, and without one read_mrc refuses headers that state none.
    values, _ = read_mrc(path, pixel_size_angstrom=1.0)
    if len(values) != 1:
        raise InputError(f"{path} holds {len(values)} images: average its frames first, one micrograph to a file")
    return np.ascontiguousarray(values[0], dtype=np.float32)


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
                palette = picture.getpalette("RGB") if picture.mode == "P" else None
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read as an image: use MRC, TIFF or PNG") from error
    if palette is not None:
        values = _looked_up(values, palette)
    if values.ndim != 2:
        raise InputError(f"{path} is a picture in colour: a micrograph has one grey value a pixel")
    return values.astype(np.float32)


def _looked_up(places: NDArray[np.uint8], palette: list[int]) -> NDArray[np.uint8]:
    """What a palette shows at `places` (H, W): its greys (H, W), or (H, W, 3) where one of them is a colour."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(palette) // 3] = np.reshape(palette, (-1, 3))
    used = colours[np.unique(places)]
    return colours[places, 0] if (used == used[:, :1]).all() else colours[places]
