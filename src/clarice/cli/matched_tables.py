"""Two particle tables laid row on row by their image names; no image is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarice.core.counting import counted
from clarice.core.errors import InputError
from clarice.core.particles import ParticleSet, Poses
from clarice.io import cryosparc, relion
from clarice.io.stack import files_behind
from clarice.io.star import read_star

ImageKey = tuple[int, str]
# Orientations and classes do not depend on it, and shifts come out in Å where a table states its pixel size or theirs.
ANY_PIXEL_SIZE_ANGSTROM = 1.0


def pose_columns(path: Path) -> str:
    """What holds the poses in a table of that name."""
    if path.suffix.lower() == ".cs":
        return "alignments3D/pose, alignments3D/shift"
    return "_rlnAngleRot, _rlnAngleTilt, _rlnAnglePsi"


def class_columns(path: Path) -> str:
    """What holds the classes in a table of that name."""
    return "alignments2D/class" if path.suffix.lower() == ".cs" else "_rlnClassNumber"


@dataclass(frozen=True)
class PoseTable:
    """What a file says of each of n particles; `keys` name their images: section and file name."""

    path: Path
    keys: list[ImageKey]
    poses: Poses | None
    class_number: NDArray[np.int32] | None

    def needed_poses(self) -> Poses:
        """The poses; raises InputError when the file has none."""
        if self.poses is None:
            raise InputError(f"{self.path} has no poses ({pose_columns(self.path)}): give a table that has them")
        return self.poses

    def needed_classes(self) -> NDArray[np.int32]:
        """The class numbers; raises InputError when the file has none."""
        if self.class_number is None:
            raise InputError(f"{self.path} has no classes ({class_columns(self.path)}): give a table that has them")
        return self.class_number


def read_pose_table(path: Path) -> PoseTable:
    """Reads a `.star` or `.cs` particle file without its images; raises InputError when it is not one."""
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    if path.suffix.lower() == ".cs":
        table = cryosparc.read_cs(path)
        if not {"blob/path", "blob/idx"} <= set(table.fields):
            raise InputError(f"{path} has no blob/path and blob/idx, so its rows cannot be told apart")
        fields = cryosparc.read_fields(table, ANY_PIXEL_SIZE_ANGSTROM)
        sections = table.numbers("blob/idx").astype(np.int64) + 1
        keys = [
            (int(number), PurePosixPath(name).name)
            for number, name in zip(sections, table.texts("blob/path").tolist(), strict=True)
        ]
        return _pose_table(path, keys, fields)
    star = relion.relion_table(path, read_star(path))
    if star is None:
        raise InputError(f"{path} is not a particle file: no block has the column _rlnImageName")
    fields = relion.read_fields(star, ANY_PIXEL_SIZE_ANGSTROM)
    return _pose_table(path, [_star_key(name) for name in star.particles[relion.IMAGE_NAME]], fields)


def _star_key(name: str) -> ImageKey:
    section, _, file = str(name).rpartition("@")
    return (int(section) if section.isdigit() else 1, PurePosixPath(file).name)


def _pose_table(path: Path, keys: list[ImageKey], fields: dict[str, Any]) -> PoseTable:
    if not keys:
        raise InputError(f"{path} lists no particles")
    return PoseTable(path, keys, fields.get("poses"), fields.get("class_number"))


def matching_rows(found: PoseTable, truth: PoseTable) -> tuple[NDArray[np.int64], str]:
    """The truth's row for each found row, and how they were matched: by image name, else by order.

    Raises InputError when some names are known to the truth and others not, or names are no help and the
    lengths differ.
    """
    rows = {key: row for row, key in enumerate(truth.keys)}
    if len(rows) == len(truth.keys) and all(key in rows for key in found.keys):
        return np.array([rows[key] for key in found.keys]), "by image name"
    known = [key in rows for key in found.keys]
    if any(known) and len(rows) == len(truth.keys):
        row = known.index(False)
        section, name = found.keys[row]
        raise InputError(
            f"{found.path}: row {row + 1} ({section}@{name}) is not in {truth.path}; evaluate against the "
            "truth of the same images"
        )
    if len(found.keys) != len(truth.keys):
        raise InputError(
            f"{found.path} has {counted(len(found.keys), 'particle')} and {truth.path} {len(truth.keys)}, and their "
            "image names do not match: evaluate against the truth of the same images"
        )
    return np.arange(len(found.keys)), "by order of rows"


def insist_on_same_rows(ours: Path, particles: ParticleSet, theirs: Path, source: ParticleSet) -> None:
    """Raises InputError where two tables differ in length or, if they name the same files, in the image of a row."""
    if len(source) != len(particles):
        raise InputError(
            f"{theirs} has {counted(len(source), 'particle')}, but {ours} has {len(particles)}: give the table of the "
            "same particles"
        )
    found, wanted = _image_keys(source), _image_keys(particles)
    if {name for _, name in found}.isdisjoint(name for _, name in wanted):
        return
    for row, (key, other) in enumerate(zip(found, wanted, strict=True), start=1):
        if key != other:
            raise InputError(
                f"{theirs}: row {row} is {key[0]}@{key[1]}, but {other[0]}@{other[1]} in {ours}: give the table of the "
                "same particles in the same order"
            )


def _image_keys(particles: ParticleSet) -> list[ImageKey]:
    """Section and file name of each image."""
    behind = files_behind(particles.images)
    assert behind is not None  # the particles were opened from files
    source, rows = behind
    names = [PurePosixPath(name).name for name in source.names]
    return [
        (int(section) + 1, names[number])
        for section, number in zip(source.sections[rows], source.file_numbers[rows], strict=True)
    ]
