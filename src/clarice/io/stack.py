"""Particle stacks: from STAR, `.cs` and MRC files to a `ParticleSet`, and back with every row and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarice.core.errors import InputError, OutputError, UsageError
from clarice.core.particles import ImageSource, ParticleSet, Poses, RowIndex, SubsetSource
from clarice.io import cryosparc, relion
from clarice.io.cryosparc_write import updated_rows, write_cs
from clarice.io.identify import describe_file, describe_star
from clarice.io.mrc import MrcSource, inspect_mrc
from clarice.io.paths import keeps_meaning, name_from, resolve_files, split_image_names
from clarice.io.refusals import NotParticlesError, OptionNeededError, no_such_group
from clarice.io.relion_write import star_blocks
from clarice.io.star import read_star, write_star

STAR_SUFFIXES = (".star", ".star.gz")
MRC_SUFFIXES = (".mrcs", ".mrc", ".map", ".st", ".ali")


@dataclass(frozen=True)
class StackSource:
    """Images spread over several MRC files; `names` are the files' names as the table wrote them.

    Row i is section `sections[i]` (counted from 0) of `files[file_numbers[i]]`.
    """

    files: tuple[MrcSource, ...]
    names: tuple[str, ...]
    file_numbers: NDArray[np.int32]
    sections: NDArray[np.int64]

    @property
    def box(self) -> int:
        return self.files[0].box

    def __len__(self) -> int:
        return len(self.sections)

    def read(self, rows: RowIndex) -> NDArray[np.float32]:
        """Images of `rows` in that order; each file is read once, in the order its sections lie on disk."""
        rows = np.asarray(rows, dtype=np.int64)
        files, sections = self.file_numbers[rows], self.sections[rows]
        images = np.empty((len(rows), self.box, self.box), dtype=np.float32)
        order = np.lexsort((sections, files))
        bounds = np.flatnonzero(np.diff(files[order])) + 1
        for places in np.split(order, bounds):
            if len(places):
                images[places] = self.files[files[places[0]]].read(sections[places])
        return images


def open_particles(
    path: Path | str,
    root: Path | str | None = None,
    passthrough: Path | str | Sequence[Path | str] | None = None,
    pixel_size_angstrom: float | None = None,
    optics_group: int | None = None,
) -> ParticleSet:
    """Opens a particle stack without reading its images.

    `path` is a STAR (`.star`, `.star.gz`), cryoSPARC (`.cs`, with `passthrough` files) or MRC file. Image
    files are looked for below `root` if given, else beside the table, in the folders above it and in the
    working folder. `pixel_size_angstrom` replaces the file's; `optics_group` takes the particles of one group
    only. Raises InputError when anything is missing, damaged or no particle stack.
    """
    path, folder = Path(path), None if root is None else Path(root)
    if not path.is_file():
        raise InputError(f"{path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}")
    if pixel_size_angstrom is not None and not 0 < pixel_size_angstrom < np.inf:
        raise UsageError(f"--pixel-size {pixel_size_angstrom} is not a positive size in Å")
    others = [passthrough] if isinstance(passthrough, (str, Path)) else list(passthrough or [])
    name = path.name.lower()
    if others and not name.endswith(".cs"):
        raise UsageError(f"--passthrough belongs to cryoSPARC's .cs files, not to {path.name}")
    if name.endswith(STAR_SUFFIXES):
        return _open_star(path, folder, pixel_size_angstrom, optics_group)
    if name.endswith(".cs"):
        return _open_cs(path, folder, others, pixel_size_angstrom, optics_group)
    if name.endswith(MRC_SUFFIXES):
        if optics_group is not None:
            raise UsageError(f"--optics-group needs a table with optics groups, which {path.name} is not")
        return _open_mrc(path, pixel_size_angstrom)
    if name.endswith(tuple(f"{suffix}.gz" for suffix in MRC_SUFFIXES)):
        raise NotParticlesError(f"{path} is a gzipped MRC file: unpack it first, stacks are read from disk by row")
    raise NotParticlesError(f"{path} is not a particle stack (.star, .cs, .mrcs): it is {describe_file(path)}")


def _open_star(path: Path, root: Path | None, pixel_size: float | None, group: int | None) -> ParticleSet:
    blocks = read_star(path)
    table = relion.relion_table(path, blocks)
    if table is None:
        raise NotParticlesError(f"{path} is not a particle stack: {describe_star(blocks)}")
    if group is not None:
        table = table.subset(relion.select_optics_group(table, group))
    if len(table) == 0:
        raise InputError(f"{path} lists no particles: the block data_{table.block} has no rows")
    names = table.particles[relion.IMAGE_NAME].tolist()
    size = pixel_size if pixel_size is not None else relion.common_pixel_size(table)
    if size is None:
        raise OptionNeededError(
            f"{path} has no pixel size: the column _rlnImagePixelSize (or _rlnDetectorPixelSize and "
            "_rlnMagnification) is missing; pass --pixel-size in Å"
        )
    fields = relion.read_fields(table, size)
    sections, numbers, files = split_image_names(names, str(path))
    source = _source(path, root, files, numbers, sections)
    stated_box = table.column("rlnImageSize")
    if pixel_size is None and stated_box is not None and not np.all(stated_box == source.box):
        raise OptionNeededError(
            f"{path} states images of {stated_box[0]:.0f} pixels (_rlnImageSize), but its files "
            f"hold {source.box}: "
            "pass --pixel-size in Å of the images in the files"
        )
    return ParticleSet(source, size, table=table, **fields)


def _open_cs(
    path: Path,
    root: Path | None,
    passthrough: Sequence[Path | str],
    pixel_size: float | None,
    group: int | None,
) -> ParticleSet:
    table = cryosparc.read_cs(path, passthrough)
    if not {"blob/path", "blob/idx"} <= set(table.fields):
        empty = " and 0 rows" if len(table) == 0 else ""
        raise NotParticlesError(
            f"{path} is a cryoSPARC dataset without images (no blob/path){empty}: pass the .cs file "
            "that holds the "
            "blob fields, and this one with --passthrough"
        )
    if group is not None:
        if "ctf/exp_group_id" not in table.fields:
            raise UsageError(f"{path} has no field ctf/exp_group_id: drop --optics-group {group}")
        groups = table.rows["ctf/exp_group_id"]
        if len(groups) and not np.any(groups == group):
            raise UsageError(no_such_group(path, group, groups))
        table = table.subset(np.flatnonzero(groups == group))
    if len(table) == 0:
        raise InputError(f"{path} lists no particles")
    size = pixel_size if pixel_size is not None else cryosparc.common_pixel_size(table)
    if size is None:
        raise OptionNeededError(f"{path} has no pixel size: the field blob/psize_A is missing; pass --pixel-size in Å")
    distinct, numbers = np.unique(table.texts("blob/path"), return_inverse=True)
    fields = cryosparc.read_fields(table, size)
    sections = table.numbers("blob/idx").astype(np.int64)
    source = _source(path, root, [str(name) for name in distinct], numbers.astype(np.int32).reshape(-1), sections)
    return ParticleSet(source, size, table=table, **fields)


def _open_mrc(path: Path, pixel_size: float | None) -> ParticleSet:
    header = inspect_mrc(path)
    nz, ny, nx = header.shape
    if path.suffix.lower() != ".mrcs" and (header.is_volume or (header.is_volume is None and nz == nx)):
        raise NotParticlesError(f"{path} is a map of {nx} × {ny} × {nz} voxels, not a stack; a stack is named .mrcs")
    if nx != ny:
        raise NotParticlesError(f"{path} holds images of {nx} × {ny} pixels (a micrograph?): particles are square")
    size = pixel_size if pixel_size is not None else header.pixel_size_angstrom
    if size is None:
        raise OptionNeededError(f"{path} has no pixel size in its header (field CELLA): pass --pixel-size in Å")
    return ParticleSet(_whole_file(MrcSource(path, header), path.name), size)


def _source(
    path: Path, root: Path | None, names: list[str], numbers: NDArray[np.int32], sections: NDArray[np.int64]
) -> StackSource:
    """Opens every image file of a table; raises InputError when one is missing or a row lies outside its
    file.
    """
    files = tuple(MrcSource.open(file) for file in resolve_files(names, path, root, len(sections)))
    boxes = {file.box: file.path for file in files}
    if len(boxes) > 1:
        listed = " and ".join(f"{box} px ({file})" for box, file in sorted(boxes.items())[:2])
        raise InputError(f"{path}: the image files differ in box, {listed}; all particles need one box")
    lengths = np.array([len(file) for file in files])
    beyond = np.flatnonzero((sections < 0) | (sections >= lengths[numbers]))
    if len(beyond):
        row = int(beyond[0])
        file = files[numbers[row]]
        raise InputError(
            f"{path}: row {row + 1} asks for image {sections[row] + 1} of {file.path}, which has {len(file)}"
        )
    return StackSource(files, tuple(names), numbers, sections)


def write_particles(
    particles: ParticleSet,
    path: Path | str,
    poses: Poses | None = None,
    class_number: ArrayLike | None = None,
    half_set: ArrayLike | None = None,
    images_path: Path | str | None = None,
    extra_columns: Mapping[str, ArrayLike] | None = None,
    drop_columns: Sequence[str] = (),
) -> None:
    """Writes the set's table as STAR 3.1 or later (`.star`) or as cryoSPARC's `.cs`, by the name's ending.

    Rows keep their order, and every column the source had is kept unless it is given here: `poses`,
    `class_number` (counted from 1), `half_set` (1 or 2), `extra_columns` by their names in the file.
    `images_path` is an MRC stack with the images of this set in its order; without it the table goes on
    naming the source's files. A set without a table (or from the other program) gets a full new one. Raises
    UsageError for another ending and OutputError.
    """
    path = Path(path)
    names = _image_names(particles, path, None if images_path is None else Path(images_path))
    if path.suffix == ".star":
        write_star(path, star_blocks(particles, names, poses, class_number, half_set, extra_columns, drop_columns))
    elif path.suffix == ".cs":
        write_cs(
            path,
            updated_rows(particles, names, poses, class_number, half_set, extra_columns, drop_columns),
        )
    else:
        raise UsageError(f"cannot write particles to {path}: the name must end in .star or .cs")


def _image_names(particles: ParticleSet, path: Path, images_path: Path | None) -> list[str]:
    count = len(particles)
    if images_path is not None:
        name = name_from(images_path, path)
        return [f"{number:06d}@{name}" for number in range(1, count + 1)]
    located = files_behind(particles.images)
    if located is None:
        raise OutputError(f"cannot write {path}: its images are not in a file yet; write them and pass images_path")
    source, rows = located
    files = [
        name if keeps_meaning(name, file.path, path) else name_from(file.path, path)
        for name, file in zip(source.names, source.files, strict=True)
    ]
    table = particles.table
    if isinstance(table, relion.RelionTable) and files == list(source.names):
        return [str(name) for name in table.particles[relion.IMAGE_NAME]]
    sections, numbers = source.sections[rows] + 1, source.file_numbers[rows]
    return [f"{section:06d}@{files[number]}" for section, number in zip(sections, numbers, strict=True)]


def files_behind(images: ImageSource) -> tuple[StackSource, RowIndex] | None:
    """The files behind an image source and the rows it takes from them; None when it has no files."""
    if isinstance(images, SubsetSource):
        behind = files_behind(images.parent)
        return None if behind is None else (behind[0], behind[1][images.rows])
    if isinstance(images, MrcSource):
        images = _whole_file(images, str(images.path))
    return (images, np.arange(len(images))) if isinstance(images, StackSource) else None


def _whole_file(file: MrcSource, name: str) -> StackSource:
    return StackSource((file,), (name,), np.zeros(len(file), dtype=np.int32), np.arange(len(file)))
