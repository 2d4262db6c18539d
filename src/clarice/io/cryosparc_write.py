"""A particle set as a cryoSPARC dataset: the source's own rows with what changed, or new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from clarice.core.errors import OutputError
from clarice.core.particles import ParticleSet, Poses
from clarice.io.atomic import writing
from clarice.io.cryosparc import (
    CTF_FIELDS,
    MICROGRAPH_PIXEL_SIZE,
    OPTIONAL_CTF_FIELDS,
    PLACE,
    CryosparcTable,
    coordinates_px,
    with_fields,
)
from clarice.io.pixel_size import is_stated, unlike_images


def updated_rows(
    particles: ParticleSet,
    image_names: Sequence[str],
    poses: Poses | None = None,
    class_number: ArrayLike | None = None,
    half_set: ArrayLike | None = None,
    extra_columns: Mapping[str, ArrayLike] | None = None,
    drop_columns: Sequence[str] = (),
) -> NDArray[np.void]:
    """The set's `.cs` rows with what is given set anew, other fields kept; a new set gets a full table."""
    table = particles.table
    made = not isinstance(table, CryosparcTable)
    rows = _new_rows(particles, image_names) if not isinstance(table, CryosparcTable) else table.rows
    sections, files = zip(*(name.split("@", 1) for name in image_names), strict=True)
    values: dict[str, NDArray[Any]] = {
        "blob/path": np.array([file.encode("utf-8", "surrogateescape") for file in files]),
        "blob/idx": np.array([int(section) - 1 for section in sections], dtype=np.uint32),
        "blob/shape": np.full((len(rows), 2), particles.box, dtype=np.uint32),
    }
    pixel_size = np.full(len(rows), particles.pixel_size_angstrom, dtype=np.float32)
    known = rows["blob/psize_A"] if "blob/psize_A" in (rows.dtype.names or ()) else None
    if known is None or len(known) == 0 or not is_stated(known, particles.pixel_size_angstrom):
        values["blob/psize_A"] = pixel_size
    micrograph_pixel_size = _unstated_micrograph_pixel_size(rows, particles)
    if micrograph_pixel_size is not None:
        values[MICROGRAPH_PIXEL_SIZE] = np.full(len(rows), micrograph_pixel_size, dtype=np.float32)
    poses = particles.poses if poses is None and made else poses
    if poses is not None:
        vectors = Rotation.from_matrix(poses.rotations.swapaxes(1, 2)).as_rotvec()
        values["alignments3D/pose"] = vectors.astype(np.float32)
        values["alignments3D/shift"] = poses.shifts_px.astype(np.float32)
        values["alignments3D/psize_A"] = pixel_size
    if class_number is not None:
        values["alignments2D/class"] = (np.asarray(class_number) - 1).astype(np.uint32)
    if half_set is not None:
        values["alignments3D/split"] = (np.asarray(half_set) - 1).clip(min=0).astype(np.uint32)
    for name, column in (extra_columns or {}).items():
        array = np.asarray(column)
        values[name] = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
    for name, value in values.items():
        if len(value) != len(rows):
            raise OutputError(f"field {name} has {len(value)} values, but there are {len(rows)} particles")
    result = with_fields(rows, values)
    kept = [name for name in result.dtype.names or () if name not in drop_columns]
    return result if len(kept) == len(result.dtype.names or ()) else _only(result, kept)


def _unstated_micrograph_pixel_size(rows: NDArray[np.void], particles: ParticleSet) -> float | None:
    """The size in Å of a micrograph's pixels, where coordinates are in them, nothing says it and images' is another."""
    names = set(rows.dtype.names or ())
    stated = MICROGRAPH_PIXEL_SIZE in names and bool((rows[MICROGRAPH_PIXEL_SIZE] > 0).any())  # 0: it was never set
    if particles.centre_angstrom is None or stated or not set(PLACE) <= names:
        return None
    return unlike_images(particles.centre_angstrom, coordinates_px(rows), particles.pixel_size_angstrom)


def _only(rows: NDArray[np.void], names: Sequence[str]) -> NDArray[np.void]:
    result = np.empty(len(rows), dtype=[(name, rows.dtype[name]) for name in names])
    for name in names:
        result[name] = rows[name]
    return result


def _new_rows(particles: ParticleSet, image_names: Sequence[str]) -> NDArray[np.void]:
    # cryoSPARC joins tables by uid: the image's name gives one that is the same in every file written from
    # this set.
    uids = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in image_names]
    rows = np.empty(len(image_names), dtype=[("uid", "<u8")])
    rows["uid"] = np.frombuffer(b"".join(uids), dtype="<u8")
    added: dict[str, NDArray[Any]] = {}
    if particles.optics is not None:
        for name, (field, unit) in {**CTF_FIELDS, **OPTIONAL_CTF_FIELDS}.items():
            added[field] = (getattr(particles.optics, name) / unit).astype(np.float32)
    if particles.optics_group is not None:
        added["ctf/exp_group_id"] = particles.optics_group.astype(np.uint32)
    if particles.micrograph is not None:
        added["location/micrograph_path"] = np.char.encode(particles.micrograph, "utf-8", "surrogateescape")
    if particles.half_set is not None:
        added["alignments3D/split"] = (particles.half_set.astype(np.int64) - 1).clip(min=0).astype(np.uint32)
    if particles.class_number is not None:
        added["alignments2D/class"] = (particles.class_number.astype(np.int64) - 1).clip(min=0).astype(np.uint32)
    return with_fields(rows, added)


def write_cs(path: Path | str, rows: NDArray[np.void]) -> None:
    """Writes a `.cs` file; raises OutputError when it cannot."""
    with writing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, rows, allow_pickle=False)
