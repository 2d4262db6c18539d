"""A particle set as a STAR file of RELION 3.1 or later: the source's own table with what changed, or a new
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from clarice.core.errors import OutputError
from clarice.core.particles import Optics, ParticleSet, Poses
from clarice.io.pixel_size import is_stated, unlike_images
from clarice.io.relion import (
    ANGLES,
    COORDINATES,
    CTF_COLUMNS,
    IMAGE_NAME,
    MICROGRAPH_PIXEL_SIZE,
    OPTIONAL_CTF_COLUMNS,
    ORIGINS_ANGSTROM,
    ORIGINS_PX,
    RelionTable,
    common_pixel_size,
    coordinates_px,
    euler_angles_deg,
    origin_angstrom,
)
from clarice.io.star import StarBlocks

# Before optics groups these stood in every row; the pixel size moves into the optics block too.
_MOVED_TO_OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
_OLD_PIXEL_SIZE = ("rlnMagnification", "rlnDetectorPixelSize", "rlnPixelSize", "rlnImagePixelSize")


def star_blocks(
    particles: ParticleSet,
    image_names: Sequence[str],
    poses: Poses | None = None,
    class_number: ArrayLike | None = None,
    half_set: ArrayLike | None = None,
    extra_columns: Mapping[str, ArrayLike] | None = None,
    drop_columns: Sequence[str] = (),
) -> StarBlocks:
    """The optics block, the particle block, and every other block of the source, ready for `write_star`.

    Rows keep their order and unknown columns their text; only what is given, the image names and an optics
    block that contradicts the images are written anew. Raises OutputError when a column's length differs.
    """
    table = particles.table
    if isinstance(table, RelionTable):
        optics, rows = _with_optics_block(table, particles)
        # RELION looks for this name since 3.1; another block of the file may have it already.
        name, others = (table.block if "particles" in table.others else "particles"), table.others
    else:
        optics, rows = _new_table(particles)
        name, others = "particles", {}
        poses = particles.poses if poses is None else poses
    rows[IMAGE_NAME] = _text(image_names)
    if poses is not None:
        _set_poses(rows, poses, particles.pixel_size_angstrom)
    given: dict[str, ArrayLike | None] = {"rlnClassNumber": class_number, "rlnRandomSubset": half_set}
    for column, values in {**given, **(extra_columns or {})}.items():
        if values is not None:
            rows[column] = _checked(column, values, len(rows))
    for column in drop_columns:
        for block in (rows, optics):
            if column in block:
                del block[column]
    _state_image_size(optics, particles)
    _state_micrograph_pixel_size(optics, rows, particles)
    return {"optics": optics, name: rows, **others}


def _text(values: Sequence[str]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def _checked(column: str, values: ArrayLike, count: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (count,):
        raise OutputError(f"column _{column} has the shape {array.shape}, but there are {count} particles")
    return array.astype(object) if array.dtype.kind in "US" else array


def _set_poses(rows: pd.DataFrame, poses: Poses, pixel_size_angstrom: float) -> None:
    if len(poses) != len(rows):
        raise OutputError(f"{len(poses)} poses were given for {len(rows)} particles")
    angles = euler_angles_deg(poses.rotations)
    origins = poses.shifts_px * pixel_size_angstrom
    for place, column in enumerate(ANGLES):
        rows[column] = angles[:, place]
    for place, column in enumerate(ORIGINS_ANGSTROM):
        rows[column] = origins[:, place]
    for column in ORIGINS_PX:
        if column in rows:
            del rows[column]


def _with_optics_block(table: RelionTable, particles: ParticleSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copies of the optics and particle blocks; the optics block is made when the source has none (RELION
    3.0).
    """
    rows = table.particles.copy()
    if table.optics is not None:
        return table.optics.copy(), rows
    present = [column for column in _MOVED_TO_OPTICS if column in rows]
    keys = rows[present].astype(str).agg("\t".join, axis=1) if present else pd.Series([""] * len(rows))
    codes, distinct = pd.factorize(keys)
    # Rows may already say which group they belong to, though the block that described it is lost.
    if "rlnOpticsGroup" in rows:
        codes, distinct = pd.factorize(rows["rlnOpticsGroup"].astype(str) + "\t" + keys)
    first = [int(np.flatnonzero(codes == code)[0]) for code in range(len(distinct))]
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": np.arange(1, len(first) + 1),
            "rlnOpticsGroupName": _text([f"opticsGroup{number}" for number in range(1, len(first) + 1)]),
            **{column: rows[column].to_numpy()[first] for column in present},
            "rlnImagePixelSize": np.full(len(first), _table_pixel_size(table, particles)),
        }
    )
    for column in (*present, *_OLD_PIXEL_SIZE):
        if column in rows:
            del rows[column]
    rows["rlnOpticsGroup"] = codes + 1
    _origins_to_angstrom(rows, particles.pixel_size_angstrom, table)
    return optics, rows


def _table_pixel_size(table: RelionTable, particles: ParticleSet) -> float:
    return common_pixel_size(table) or particles.pixel_size_angstrom


def _origins_to_angstrom(rows: pd.DataFrame, pixel_size_angstrom: float, table: RelionTable) -> None:
    """Old tables give shifts in pixels; they stay where they stood, in Å."""
    for px, angstrom in zip(ORIGINS_PX, ORIGINS_ANGSTROM, strict=True):
        origin = origin_angstrom(table, angstrom, px, pixel_size_angstrom)
        if origin is None or px not in rows:
            continue
        place = list(rows.columns).index(px)
        del rows[px]
        if angstrom not in rows:
            rows.insert(place, angstrom, origin)


def _new_table(particles: ParticleSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A full table for a set that did not come from a STAR file."""
    count = len(particles)
    rows = pd.DataFrame({IMAGE_NAME: np.full(count, "", dtype=object)})
    if particles.micrograph is not None:
        rows["rlnMicrographName"] = particles.micrograph.astype(object)
    group, optics = _optics_groups(particles)
    rows["rlnOpticsGroup"] = group
    if particles.optics is not None:
        for name, column in {**CTF_COLUMNS, **OPTIONAL_CTF_COLUMNS}.items():
            if column not in _MOVED_TO_OPTICS:
                rows[column] = getattr(particles.optics, name)
    if particles.class_number is not None:
        rows["rlnClassNumber"] = particles.class_number
    if particles.half_set is not None:
        rows["rlnRandomSubset"] = particles.half_set.astype(np.int32)
    return optics, rows


def _optics_groups(particles: ParticleSet) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """A group number for each particle and the optics block: one group for each microscope setting and given
    group.
    """
    count = len(particles)
    given = np.ones(count) if particles.optics_group is None else particles.optics_group.astype(np.float64)
    keys = np.stack([given, *_settings(particles.optics)], axis=1)
    distinct, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    del distinct
    numbers = np.arange(1, len(first) + 1)
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": numbers,
            "rlnOpticsGroupName": _text([f"opticsGroup{number}" for number in numbers]),
            "rlnImagePixelSize": np.full(len(first), particles.pixel_size_angstrom),
        }
    )
    if particles.optics is not None:
        for name, column in CTF_COLUMNS.items():
            if column in _MOVED_TO_OPTICS:
                optics[column] = getattr(particles.optics, name)[first]
    return np.asarray(group).reshape(-1) + 1, optics


def _settings(optics: Optics | None) -> list[NDArray[np.float64]]:
    return [] if optics is None else [optics.voltage_kv, optics.spherical_aberration_mm, optics.amplitude_contrast]


def _state_image_size(optics: pd.DataFrame, particles: ParticleSet) -> None:
    """Makes pixel size and box true for these images; text that already says so stays untouched."""
    wanted = {"rlnImagePixelSize": particles.pixel_size_angstrom, "rlnImageSize": particles.box}
    if "rlnOpticsGroupName" not in optics:
        optics["rlnOpticsGroupName"] = _text([f"opticsGroup{number}" for number in range(1, len(optics) + 1)])
    for column, value in wanted.items():
        stated = pd.to_numeric(optics[column], errors="coerce") if column in optics else None
        if stated is None or not is_stated(stated.to_numpy(dtype=float), value):
            optics[column] = np.full(len(optics), value)
    if "rlnImageDimensionality" not in optics:
        optics["rlnImageDimensionality"] = np.full(len(optics), 2)


def _state_micrograph_pixel_size(optics: pd.DataFrame, rows: pd.DataFrame, particles: ParticleSet) -> None:
    """Says of which size the pixels of coordinates are, where nothing did and images no longer have it."""
    known = MICROGRAPH_PIXEL_SIZE in optics or MICROGRAPH_PIXEL_SIZE in rows
    if known or particles.centre_angstrom is None or not set(COORDINATES) <= set(rows):
        return
    size = unlike_images(particles.centre_angstrom, coordinates_px(rows), particles.pixel_size_angstrom)
    if size is not None:
        optics[MICROGRAPH_PIXEL_SIZE] = np.full(len(optics), size)
