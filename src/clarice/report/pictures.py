"""Images as PNG data addresses, greyscale or coloured, so that the page carries them itself."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_EDGE_PX = 192

# Dark blue to pale yellow, lightness rising evenly, readable for the colour-blind.
_HEAT = np.array(
    [[19, 26, 66], [38, 65, 122], [38, 112, 142], [53, 158, 135], [129, 200, 106], [236, 226, 104]],
    dtype=np.float64,
)


def grey_png(image: NDArray[np.float32], low: float, high: float) -> str:
    """A PNG data address of `image` (L, L), axes (y, x), y drawn upwards; `low` is black and `high` white."""
    scaled = np.clip((image[::-1] - low) / max(high - low, 1e-12), 0, 1)
    return _address(_shrunk(Image.fromarray(np.round(255 * scaled).astype(np.uint8))))


def contrast(image: NDArray[np.float32], spread: float = 3.0) -> tuple[float, float]:
    """Grey limits `spread` standard deviations around the mean, within the image's own range."""
    middle, sigma = float(image.mean()), float(image.std())
    return max(float(image.min()), middle - spread * sigma), min(float(image.max()), middle + spread * sigma)


def heat_colours(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours (..., 3) of `values` in 0..1."""
    place = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    lower = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - lower)[..., None]
    colours: NDArray[np.uint8] = np.round((1 - part) * _HEAT[lower] + part * _HEAT[lower + 1]).astype(np.uint8)
    return colours


def colour_png(values: NDArray[np.float64], visible: NDArray[np.bool_]) -> str:
    """A PNG data address of `values` (h, w) in 0..1 as heat colours, transparent where not `visible`."""
    alpha = np.where(visible, 255, 0).astype(np.uint8)
    return _address(Image.fromarray(np.concatenate([heat_colours(values), alpha[..., None]], axis=-1)))


def _shrunk(picture: Image.Image) -> Image.Image:
    if max(picture.size) <= MAX_EDGE_PX:
        return picture
    return picture.resize((MAX_EDGE_PX, MAX_EDGE_PX), Image.Resampling.LANCZOS)


def _address(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
