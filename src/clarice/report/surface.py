"""What the page's 3-D viewer shows (a cropped, finely sampled map and a first threshold), and slices."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, zoom
from skimage.filters import threshold_otsu

from clarice.report.folder import Volume
from clarice.report.pictures import grey_png

# The viewer meshes a cube of this edge at most, fine enough to look smooth, small enough for a phone.
VIEWER_EDGE = 76
MAX_UPSAMPLING = 2.0
# Partial specific volume 0.73 cm³/g of protein, in Å³ per dalton.
PROTEIN_ANGSTROM3_PER_DALTON = 1.21


@dataclass(frozen=True)
class Plane:
    """A central slice or a projection: `axis` is its normal, `across` and `up` the axes along its edges."""

    axis: str
    across: str
    up: str
    picture: str


@dataclass(frozen=True)
class Surface:
    """What the viewer needs: `settings` go into the page as JSON, `values_base64` are its bytes (z, y, x)."""

    settings: dict[str, Any]
    values_base64: str
    level: float
    level_sigma: float
    diameter_angstrom: float


def starting_level(values: NDArray[np.float32]) -> float:
    """The threshold that best parts particle from surroundings (Otsu's, on the positive part of the map)."""
    positive = values[values > 0]
    if len(positive) < 2 or float(positive.min()) == float(positive.max()):
        return float(values.max()) / 2
    level: float = threshold_otsu(np.asarray(positive, dtype=np.float64))  # type: ignore[no-untyped-call]
    return float(level)


def surface(volume: Volume) -> Surface | None:
    """The viewer's copy of `volume`; None when the map is flat."""
    values = volume.values
    peak, sigma = float(values.max()), float(values.std())
    if peak <= 0 or sigma == 0:
        return None
    level = min(starting_level(values), 0.9 * peak)
    body = _without_specks(values >= level)
    start, stop = _content(_without_specks(values >= 0.6 * level))
    crop = values[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    factor = min(MAX_UPSAMPLING, VIEWER_EDGE / crop.shape[0])
    if factor < 1:
        # Without this, detail finer than the viewer's voxels would fold back as false texture.
        crop = gaussian_filter(crop, 0.5 / factor)
    fine = zoom(crop, factor, order=3, mode="nearest", grid_mode=True)
    low = min(0.0, float(np.quantile(values, 0.01)))
    quantised = np.round(255 * np.clip((fine - low) / (peak - low), 0, 1)).astype(np.uint8)
    voxel = volume.pixel_size_angstrom * crop.shape[0] / fine.shape[0]
    settings = {
        "edge": int(fine.shape[0]),
        "voxel_angstrom": voxel,
        "low": low,
        "high": peak,
        "level": level,
        "least": min(max(0.2 * level, 0.5 * sigma), 0.9 * level),
        "most": level + 0.85 * (peak - level),
        "sigma": sigma,
        "angstrom3_per_dalton": PROTEIN_ANGSTROM3_PER_DALTON,
    }
    return Surface(
        settings,
        base64.b64encode(quantised.tobytes()).decode("ascii"),
        level,
        level / sigma,
        _diameter_px(body) * volume.pixel_size_angstrom,
    )


def central_slices(volume: Volume) -> tuple[Plane, ...]:
    """Slices through the centre across z, y and x, sharing one grey scale."""
    return _planes(through_the_centre(volume.values), 0.9995)


def projections(volume: Volume) -> tuple[Plane, ...]:
    """Sums along z, y and x, sharing one grey scale: what the class averages of these views look like."""
    return _planes(tuple(volume.values.sum(axis=axis) for axis in range(3)), 0.999)


def _planes(images: tuple[NDArray[np.float32], ...], brightest: float) -> tuple[Plane, ...]:
    low, high = (float(np.quantile(np.stack(images), share)) for share in (0.005, brightest))
    return planes_of([grey_png(image, low, high) for image in images])


def through_the_centre(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Slices (L, L) of values (L, L, L) across z, y and x."""
    middle = values.shape[0] // 2
    return values[middle], values[:, middle], values[:, :, middle]


def planes_of(pictures: Sequence[str]) -> tuple[Plane, ...]:
    """Pictures across z, y and x with their axes."""
    axes = (("z", "x", "y"), ("y", "x", "z"), ("x", "y", "z"))
    return tuple(Plane(*names, picture) for names, picture in zip(axes, pictures, strict=True))


def _without_specks(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`inside` without parts under 3 % of the largest one, so that noise does not widen crop and diameter."""
    parts, found = label(inside)
    if found <= 1:
        return inside
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept: NDArray[np.bool_] = (sizes >= 0.03 * sizes.max())[parts]
    return kept


def _content(body: NDArray[np.bool_], margin: int = 3) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners of the smallest cube, inside the box, that holds `body` and a margin."""
    box = body.shape[0]
    places = np.argwhere(body)
    low, high = places.min(axis=0) - margin, places.max(axis=0) + 1 + margin
    edge = min(box, int((high - low).max()))
    start = np.clip((low + high - edge) // 2, 0, box - edge)
    return start, start + edge


def _diameter_px(body: NDArray[np.bool_]) -> float:
    """Twice the largest distance of the body from its centre of mass."""
    places = np.argwhere(body).astype(np.float64)
    return 2 * float(np.linalg.norm(places - places.mean(axis=0), axis=1).max()) + 1
