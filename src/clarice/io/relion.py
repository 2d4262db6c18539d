"""RELION particle tables: what their columns say about each particle, before and since optics groups."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from clarice.core.errors import InputError, UsageError
from clarice.core.particles import FloatArray, Optics, Poses, RowIndex
from clarice.io.pixel_size import is_one_size
from clarice.io.refusals import OptionNeededError, no_such_group
from clarice.io.star import floats, integers, read_star, texts

IMAGE_NAME = "rlnImageName"
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY")
MICROGRAPH_PIXEL_SIZE = "rlnMicrographOriginalPixelSize"
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
ORIGINS_ANGSTROM = ("rlnOriginXAngst", "rlnOriginYAngst")
ORIGINS_PX = ("rlnOriginX", "rlnOriginY")
CTF_COLUMNS = {
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "defocus_u_angstrom": "rlnDefocusU",
    "defocus_v_angstrom": "rlnDefocusV",
    "defocus_angle_deg": "rlnDefocusAngle",
}
_DEFOCUS = {"rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"}
OPTIONAL_CTF_COLUMNS = {"phase_shift_deg": "rlnPhaseShift", "bfactor_angstrom2": "rlnCtfBfactor"}


@dataclass(frozen=True)
class RelionTable:
    """The particle block of a STAR file, its optics block (None before RELION 3.1) and all other blocks.

    All values are the file's own text. `block` is the particle block's name.
    """

    path: Path
    particles: pd.DataFrame
    optics: pd.DataFrame | None
    block: str
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.particles)

    def subset(self, rows: RowIndex) -> RelionTable:
        """The table of `rows`, in that order."""
        return replace(self, particles=self.particles.iloc[rows].reset_index(drop=True))

    def column(self, name: str) -> FloatArray | None:
        """A number for each particle, from its optics group or its own row; None where neither has it."""
        if self.optics is not None and name in self.optics:
            return floats(self.optics, name, f"{self.path}, optics groups")[self.group_rows()]
        if name in self.particles:
            return floats(self.particles, name, str(self.path))
        return None

    def group_rows(self) -> NDArray[np.int64]:
        """The row of the optics block that each particle belongs to; raises InputError when there is none."""
        if self.optics is None:
            return np.zeros(len(self), dtype=np.int64)
        if "rlnOpticsGroup" not in self.optics or "rlnOpticsGroup" not in self.particles:
            if len(self.optics) == 1:
                return np.zeros(len(self), dtype=np.int64)
            raise InputError(f"{self.path}: the column _rlnOpticsGroup is missing, so optics cannot be assigned")
        known = integers(self.optics, "rlnOpticsGroup", f"{self.path}, optics groups")
        wanted = integers(self.particles, "rlnOpticsGroup", str(self.path))
        order = np.argsort(known)
        places = np.searchsorted(known, wanted, sorter=order).clip(max=max(len(known) - 1, 0))
        rows = order[places] if len(known) else np.zeros(0, dtype=np.int64)
        lost = np.flatnonzero(known[rows] != wanted) if len(known) else np.arange(len(wanted))
        if len(lost):
            raise InputError(
                f"{self.path}: row {lost[0] + 1} belongs to optics group {wanted[lost[0]]}, "
                "which the block data_optics does not list"
            )
        return np.asarray(rows, dtype=np.int64)


def relion_table(path: Path, blocks: Mapping[str, pd.DataFrame]) -> RelionTable | None:
    """The particle table among a STAR file's blocks; None when no block has image names."""
    names = [name for name, block in blocks.items() if IMAGE_NAME in block]
    if not names:
        return None
    if len(names) > 1:
        listed = ", ".join(f"data_{name}" for name in names)
        raise InputError(f"{path}: several blocks hold image names ({listed}); keep one of them in the file")
    others = {name: block for name, block in blocks.items() if name not in (names[0], "optics")}
    return RelionTable(path, blocks[names[0]], blocks.get("optics"), names[0], others)


def particle_rows(path: Path) -> pd.DataFrame:
    """The particle block of a STAR file; raises InputError where there is none."""
    table = relion_table(path, read_star(path))
    if table is None:
        raise InputError(f"{path} lists no particles: it has no block with the column _{IMAGE_NAME}")
    return table.particles


def select_optics_group(table: RelionTable, group: int) -> NDArray[np.int64]:
    """Rows of one optics group; raises UsageError when it has none."""
    if "rlnOpticsGroup" not in table.particles:
        raise UsageError(f"{table.path} has no column _rlnOpticsGroup: drop --optics-group {group}")
    groups = integers(table.particles, "rlnOpticsGroup", str(table.path))
    rows = np.flatnonzero(groups == group)
    if len(rows) == 0:
        raise UsageError(no_such_group(table.path, group, groups))
    return rows


def missing_ctf_columns(table: RelionTable) -> list[str]:
    """CTF columns that neither the particles nor their optics groups have; a microscope without any defocus counts
    as no CTF, all columns missing.
    """
    known = set(table.particles) | (set() if table.optics is None else set(table.optics))
    if not known & _DEFOCUS:
        return list(CTF_COLUMNS.values())
    return [column for column in CTF_COLUMNS.values() if column not in known]


def pixel_sizes(table: RelionTable) -> FloatArray | None:
    """Pixel size of each particle's image in Å, (n,); RELION 3.0 gives the detector's and a magnification."""
    stated = table.column("rlnImagePixelSize")
    if stated is None:
        detector_um, magnification = table.column("rlnDetectorPixelSize"), table.column("rlnMagnification")
        if detector_um is not None and magnification is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                stated = detector_um * 1e4 / magnification
        else:
            stated = table.column("rlnPixelSize")
    if stated is None:
        return None
    bad = np.flatnonzero(~(np.isfinite(stated) & (stated > 0)))
    if len(bad):
        raise InputError(
            f"{table.path}: the pixel size of row {bad[0] + 1} is {stated[bad[0]]:g} Å, not a positive number"
        )
    return stated


def common_pixel_size(table: RelionTable) -> float | None:
    """The one pixel size of all particles in Å, None where there is none; InputError when groups differ."""
    sizes = pixel_sizes(table)
    if sizes is None or len(sizes) == 0:
        return None
    if is_one_size(sizes):
        return float(sizes[0])
    if "rlnOpticsGroup" not in table.particles:
        raise InputError(f"{table.path}: pixel sizes range from {sizes.min():g} to {sizes.max():g} Å; split the file")
    groups = integers(table.particles, "rlnOpticsGroup", str(table.path))
    listed = ", ".join(f"{group} has {sizes[groups == group][0]:g} Å" for group in np.unique(groups))
    raise OptionNeededError(
        f"{table.path}: optics groups differ in pixel size (group {listed}); pass --optics-group N to take one"
    )


def read_fields(table: RelionTable, pixel_size_angstrom: float) -> dict[str, Any]:
    """Optics, poses, half sets, micrographs, places on them, classes and optics groups, as `ParticleSet` names them."""
    particles, origin = table.particles, str(table.path)
    fields: dict[str, Any] = {"optics": _optics(table), "poses": _poses(table, pixel_size_angstrom)}
    if "rlnRandomSubset" in particles:
        halves = integers(particles, "rlnRandomSubset", origin)
        fields["half_set"] = np.where((halves == 1) | (halves == 2), halves, 0).astype(np.int8)
    if "rlnMicrographName" in particles:
        fields["micrograph"] = texts(particles, "rlnMicrographName")
        fields["centre_angstrom"] = _centres_angstrom(table, pixel_size_angstrom)
    if "rlnClassNumber" in particles:
        fields["class_number"] = integers(particles, "rlnClassNumber", origin)
    if "rlnOpticsGroup" in particles:
        fields["optics_group"] = integers(particles, "rlnOpticsGroup", origin)
    return fields


def _optics(table: RelionTable) -> Optics | None:
    if missing_ctf_columns(table):
        return None
    zeros = np.zeros(len(table))
    values = {name: table.column(column) for name, column in CTF_COLUMNS.items()}
    for name, column in OPTIONAL_CTF_COLUMNS.items():
        found = table.column(column)
        values[name] = zeros if found is None else found
    return Optics(**{name: zeros if value is None else value for name, value in values.items()})


def _centres_angstrom(table: RelionTable, pixel_size_angstrom: float) -> FloatArray | None:
    """Where on its micrograph each particle lies, (n, 2) as (x, y), NaN where its row has no such numbers; None without
    coordinates. These are in pixels of the micrograph; where no size of those is stated, in pixels of the images.
    """
    if not set(COORDINATES) <= set(table.particles):
        return None
    px = coordinates_px(table.particles)
    size = table.column(MICROGRAPH_PIXEL_SIZE)
    return px * (np.full(len(table), pixel_size_angstrom) if size is None else size)[:, None]


def coordinates_px(rows: pd.DataFrame) -> FloatArray:
    """The coordinates of rows that have both, (n, 2), NaN where they are no numbers."""
    columns = [pd.to_numeric(rows[name], errors="coerce") for name in COORDINATES]
    return np.stack([column.to_numpy(dtype=np.float64) for column in columns], axis=1)


def _poses(table: RelionTable, pixel_size_angstrom: float) -> Poses | None:
    angles = [table.column(name) for name in ANGLES]
    if any(angle is None for angle in angles):
        return None
    origins = [
        origin_angstrom(table, *names, pixel_size_angstrom) for names in zip(ORIGINS_ANGSTROM, ORIGINS_PX, strict=True)
    ]
    shifts = [np.zeros(len(table)) if origin is None else origin / pixel_size_angstrom for origin in origins]
    euler = np.stack([angle for angle in angles if angle is not None], axis=1)
    # R = Rz(−psi) Ry(−tilt) Rz(−rot): the transpose of SciPy's intrinsic ZYZ.
    rotations = Rotation.from_euler("ZYZ", euler, degrees=True).as_matrix().swapaxes(1, 2)
    return Poses(np.ascontiguousarray(rotations), np.stack(shifts, axis=1))


def origin_angstrom(table: RelionTable, angstrom: str, px: str, pixel_size_angstrom: float) -> FloatArray | None:
    """An origin in Å, (n,), from the column that states it so, or in pixels; None where neither is there.

    Those are pixels of the images that the table was written for, whatever size these images have since;
    `pixel_size_angstrom` is taken where the table states none.
    """
    stated = table.column(angstrom)
    if stated is not None:
        return stated
    in_px = table.column(px)
    if in_px is None:
        return None
    try:
        sizes = pixel_sizes(table)
    except InputError:  # no sizes at all: --pixel-size stands in for them
        sizes = None
    return np.asarray(in_px * (pixel_size_angstrom if sizes is None else sizes))


def euler_angles_deg(rotations: FloatArray) -> FloatArray:
    """RELION's (rot, tilt, psi) of active matrices (n, 3, 3), degrees, tilt in [0, 180], (n, 3)."""
    transposed = np.swapaxes(np.asarray(rotations, dtype=np.float64), 1, 2)
    with warnings.catch_warnings():
        # At tilt 0 and 180 only rot ± psi is defined: SciPy warns and puts psi to 0, as wanted.
        warnings.simplefilter("ignore", UserWarning)
        angles = Rotation.from_matrix(transposed).as_euler("ZYZ", degrees=True)
    return np.asarray(angles, dtype=np.float64)
