"""Maps and masks from files, brought on one grid so that they can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError, UsageError
from clarice.io.mrc import read_mrc
from clarice.metrics.masks import soft_sphere
from clarice.metrics.registration import resample

# Pixel sizes within this share of each other are one grid: headers round.
SAME_PIXEL = 1e-3
EDGE_PX = 3.0
# Half maps nearer to each other than this are copies: independent ones differ at least by rounding of their noise.
COPY_CORRELATION = 1 - 1e-6
# Masks that were resampled overshoot a little.
MASK_TOLERANCE = 0.05


@dataclass(frozen=True)
class Cube:
    """A map (L, L, L), its pixel size and the file it came from."""

    values: NDArray[np.float32]
    pixel_size_angstrom: float
    path: Path

    @property
    def box(self) -> int:
        """Edge, pixels."""
        return int(self.values.shape[-1])


def read_cube(path: Path) -> Cube:
    """A cubic MRC map; raises InputError when it is not cubic or holds values that are not numbers."""
    values, pixel_size = read_mrc(path)
    if values.ndim != 3 or len(set(values.shape)) != 1 or values.shape[-1] < 8:
        raise InputError(f"{path} has the shape {values.shape}: a map to compare must be a cube of 8 px or more")
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are not numbers: mend or replace the file")
    return Cube(values, pixel_size, path)


def read_half_maps(half1: Path, half2: Path) -> tuple[Cube, Cube]:
    """Two half maps on one grid. Raises InputError when they are not, or are copies of each other."""
    first, second = read_cube(half1), read_cube(half2)
    if first.values.shape != second.values.shape:
        raise InputError(f"{half1} has the box {first.box} and {half2} {second.box}: half maps share one grid")
    if abs(first.pixel_size_angstrom / second.pixel_size_angstrom - 1) > SAME_PIXEL:
        raise InputError(
            f"{half1} has pixels of {first.pixel_size_angstrom:.4g} Å, {half2} of {second.pixel_size_angstrom:.4g} Å: "
            "half maps share one grid; mend the header that is wrong"
        )
    if is_same_map(first.values, second.values):
        raise InputError(f"{half1} and {half2} hold the same map, so their FSC says nothing: give two half maps")
    return first, second


def is_same_map(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether two maps (L, L, L) are copies of each other, but for their scale and mean."""
    a, b = (volume.astype(np.float64) - volume.mean(dtype=np.float64) for volume in (first, second))
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return bool(norm == 0 or (a * b).sum() / norm > COPY_CORRELATION)


def on_grid_of(cube: Cube, grid: Cube) -> Cube:
    """`cube` resampled to the box and pixel size of `grid`, by Fourier transform, unless they agree."""
    scale = grid.pixel_size_angstrom / cube.pixel_size_angstrom
    if cube.box == grid.box and abs(scale - 1) < SAME_PIXEL:
        return cube
    return Cube(resample(cube.values, grid.box, scale), grid.pixel_size_angstrom, cube.path)


def soft_mask(mask: Path | None, diameter_angstrom: float | None, grid: Cube) -> NDArray[np.float32] | None:
    """The mask of a file, or a soft sphere of a diameter, on the grid of `grid`; None where neither is given.

    Raises UsageError when both are given or the diameter does not fit, InputError when a mask is empty or no mask.
    """
    if mask is not None and diameter_angstrom is not None:
        raise UsageError("--mask and --diameter exclude each other: give one of them")
    if mask is not None:
        read = read_cube(mask)
        lowest, highest = float(read.values.min()), float(read.values.max())
        if lowest < -MASK_TOLERANCE or highest > 1 + MASK_TOLERANCE:
            raise InputError(f"{mask} is no mask: its values run from {lowest:.3g} to {highest:.3g}, not from 0 to 1")
        values = np.clip(on_grid_of(read, grid).values, 0, 1)
        if not values.any():
            raise InputError(f"{mask} is zero everywhere on the map's grid: give a mask that covers the map")
        return values
    if diameter_angstrom is None:
        return None
    edge = grid.box * grid.pixel_size_angstrom
    if not 0 < diameter_angstrom <= edge:
        raise UsageError(f"--diameter {diameter_angstrom:g} does not lie between 0 and the box's {edge:.1f} Å")
    return soft_sphere(grid.box, diameter_angstrom / (2 * grid.pixel_size_angstrom), EDGE_PX)
