"""cryoSPARC datasets (`.cs`): a table of named fields, joined with its passthrough files by `uid`.

Conventions, as pyem and cryoDRGN read them: `alignments3D/pose` is the rotation vector of the transpose of
our matrix (view to molecule); `alignments3D/shift` is, in pixels of `alignments3D/psize_A`, what RELION calls
the origin.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from clarice.core.errors import InputError
from clarice.core.particles import FloatArray, Optics, Poses, RowIndex
from clarice.io.pixel_size import is_one_size
from clarice.io.refusals import OptionNeededError, empty_file

_COMPRESSED_MAGIC = b"\x94CSDAT"
_MAX_HEADER_BYTES = 1 << 20
CTF_FIELDS = {
    "voltage_kv": ("ctf/accel_kv", 1.0),
    "spherical_aberration_mm": ("ctf/cs_mm", 1.0),
    "amplitude_contrast": ("ctf/amp_contrast", 1.0),
    "defocus_u_angstrom": ("ctf/df1_A", 1.0),
    "defocus_v_angstrom": ("ctf/df2_A", 1.0),
    "defocus_angle_deg": ("ctf/df_angle_rad", 180 / np.pi),
}
_DEFOCUS = {"ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad"}
PLACE = ("location/center_x_frac", "location/center_y_frac", "location/micrograph_shape")
MICROGRAPH_PIXEL_SIZE = "location/micrograph_psize_A"
OPTIONAL_CTF_FIELDS = {
    "phase_shift_deg": ("ctf/phase_shift_rad", 180 / np.pi),
    "bfactor_angstrom2": ("ctf/bfactor", 1.0),
}


@dataclass(frozen=True)
class CryosparcTable:
    """The rows of a `.cs` file as a structured array, passthrough fields included."""

    path: Path
    rows: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, rows: RowIndex) -> CryosparcTable:
        """The table of `rows`, in that order."""
        return replace(self, rows=self.rows[rows])

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, such as `ctf/df1_A`."""
        return tuple(self.rows.dtype.names or ())

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A numeric field as float64; raises InputError naming the first row that is not finite."""
        values = self.rows[name]
        if values.dtype.kind not in "fiub":
            raise InputError(f"{self.path}: the field {name} does not hold numbers")
        numbers = values.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1))
        if len(bad):
            raise InputError(f"{self.path}: row {bad[0] + 1} of the field {name} is {values[bad[0]]}, not a number")
        return numbers

    def texts(self, name: str) -> NDArray[np.str_]:
        """A text field as str."""
        values = self.rows[name]
        if values.dtype.kind == "S":
            return np.char.decode(values, "utf-8", "surrogateescape")
        return values.astype(str)


def read_cs(path: Path | str, passthrough: Sequence[Path | str] = ()) -> CryosparcTable:
    """A `.cs` file with the fields of its passthrough files added, rows in the first file's order.

    Raises InputError when a file is unreadable, truncated or compressed, or a `uid` is missing from a
    passthrough.
    """
    path = Path(path)
    rows = _read_array(path)
    for other in map(Path, passthrough):
        rows = _joined(path, rows, other, _read_array(other))
    return CryosparcTable(path, rows)


def _read_array(path: Path) -> NDArray[np.void]:
    try:
        with path.open("rb") as file:
            magic = file.read(6)
            if not magic:
                raise empty_file(path)
            if magic == _COMPRESSED_MAGIC:
                raise InputError(
                    f"{path} is in cryoSPARC's compressed format: save it again with "
                    "Dataset.save(path, format=1) "
                    "of cryosparc-tools"
                )
            if magic != b"\x93NUMPY":
                raise InputError(f"{path} is not a cryoSPARC dataset: it does not begin as a NumPy table")
            file.seek(0)
            return _read_checked(path, file)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _read_checked(path: Path, file: BinaryIO) -> NDArray[np.void]:
    """Reads the table after comparing its size with the file's, so that no header can ask for terabytes."""
    shape, dtype = _table_layout(path, file)
    if dtype.hasobject:
        raise InputError(f"{path} holds Python objects, which are not read from untrusted files")
    if dtype.names is None or len(shape) != 1 or dtype.itemsize == 0:
        raise InputError(f"{path} is not a cryoSPARC dataset: it holds an array of shape {shape}, not named fields")
    expected = file.tell() + shape[0] * dtype.itemsize
    actual = path.stat().st_size
    if shape[0] < 0 or actual < expected:
        raise InputError(f"{path} is truncated: {shape[0]} rows need {expected} bytes, the file has {actual}")
    return np.fromfile(file, dtype=dtype, count=shape[0])


def _table_layout(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and fields from the header of the NPY format, versions 1 to 3; NumPy's own reader trusts its
    length.
    """
    start = file.read(12)
    wide = start[6:7] != b"\x01"
    length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
    file.seek(12 if wide else 10)
    text = file.read(length).decode("utf-8", "replace") if length <= _MAX_HEADER_BYTES else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = ast.literal_eval(text)
            shape = tuple(operator.index(size) for size in header["shape"])
            return shape, np.lib.format.descr_to_dtype(header["descr"])
    except (
        ValueError,
        TypeError,
        SyntaxError,
        LookupError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as error:
        raise InputError(f"{path} is damaged: its table header cannot be read") from error


def _joined(path: Path, rows: NDArray[np.void], other: Path, added: NDArray[np.void]) -> NDArray[np.void]:
    for name, table in ((path, rows), (other, added)):
        if "uid" not in (table.dtype.names or ()):
            raise InputError(f"{name} has no field uid, so {path} and {other} cannot be joined")
    order = np.argsort(added["uid"], kind="stable")
    places = np.searchsorted(added["uid"], rows["uid"], sorter=order).clip(max=max(len(added) - 1, 0))
    found = order[places] if len(added) else np.zeros(0, dtype=np.int64)
    lost = np.flatnonzero(added["uid"][found] != rows["uid"]) if len(added) else np.arange(len(rows))
    if len(lost):
        raise InputError(f"{other}: the uid {rows['uid'][lost[0]]} of row {lost[0] + 1} of {path} is missing")
    new = [name for name in added.dtype.names or () if name not in (rows.dtype.names or ())]
    return with_fields(rows, {name: added[name][found] for name in new})


def with_fields(rows: NDArray[np.void], values: Mapping[str, NDArray[Any]]) -> NDArray[np.void]:
    """A copy of `rows` with fields replaced, or added at the end; a text field widens where it must."""
    description: dict[str, Any] = {name: rows.dtype[name] for name in rows.dtype.names or ()}
    for name, value in values.items():
        kept = description.get(name)
        fresh = np.dtype((value.dtype, value.shape[1:]))
        widens = kept is not None and kept.kind == "S" and fresh.itemsize > kept.itemsize
        description[name] = fresh if kept is None or widens else kept
    result = np.empty(len(rows), dtype=list(description.items()))
    for name in description:
        result[name] = values[name] if name in values else rows[name]
    return result


def common_pixel_size(table: CryosparcTable) -> float | None:
    """The one `blob/psize_A` of all rows, None without the field; raises InputError when rows differ."""
    if "blob/psize_A" not in table.fields or len(table) == 0:
        return None
    sizes = table.numbers("blob/psize_A")
    if sizes.min() <= 0:
        raise OptionNeededError(f"{table.path}: blob/psize_A is {sizes.min():g} Å in some rows; pass --pixel-size in Å")
    if not is_one_size(sizes):
        differing = f"{table.path}: blob/psize_A ranges from {sizes.min():g} to {sizes.max():g} Å"
        if "ctf/exp_group_id" not in table.fields:
            raise InputError(f"{differing}, and no field ctf/exp_group_id parts them; split the file")
        raise OptionNeededError(f"{differing}; pass --optics-group N to take one exposure group")
    return float(sizes[0])


def missing_ctf_fields(table: CryosparcTable) -> list[str]:
    """CTF fields the table lacks; a microscope without any defocus counts as no CTF, all fields missing."""
    if not _DEFOCUS & set(table.fields):
        return [name for name, _ in CTF_FIELDS.values()]
    return [name for name, _ in CTF_FIELDS.values() if name not in table.fields]


def read_fields(table: CryosparcTable, pixel_size_angstrom: float) -> dict[str, Any]:
    """Optics, poses, half sets, micrographs and places on them, classes and exposure groups, as `ParticleSet` names
    them.
    """
    fields: dict[str, Any] = {"optics": _optics(table), "poses": _poses(table, pixel_size_angstrom)}
    if "alignments3D/split" in table.fields:
        # cryoSPARC counts halves 0 and 1.
        fields["half_set"] = (table.numbers("alignments3D/split") + 1).astype(np.int8)
    if "location/micrograph_path" in table.fields:
        fields["micrograph"] = table.texts("location/micrograph_path")
        fields["centre_angstrom"] = _centres_angstrom(table, pixel_size_angstrom)
    for name in ("alignments2D/class", "alignments3D/class"):
        if name in table.fields:
            fields["class_number"] = (table.numbers(name) + 1).astype(np.int32)
            break
    if "ctf/exp_group_id" in table.fields:
        fields["optics_group"] = table.numbers("ctf/exp_group_id").astype(np.int32)
    return fields


def _optics(table: CryosparcTable) -> Optics | None:
    if missing_ctf_fields(table):
        return None
    values = {name: table.numbers(field) * unit for name, (field, unit) in CTF_FIELDS.items()}
    for name, (field, unit) in OPTIONAL_CTF_FIELDS.items():
        known = field in table.fields
        values[name] = table.numbers(field) * unit if known else np.zeros(len(table))
    return Optics(**values)


def _centres_angstrom(table: CryosparcTable, pixel_size_angstrom: float) -> FloatArray | None:
    """Where on its micrograph each particle lies, (n, 2) as (x, y); None without all of its fields.

    They are shares of the micrograph's shape (rows, columns), whose pixels count as the images' where their size is not
    stated.
    """
    if not set(PLACE) <= set(table.fields):
        return None
    size = np.full(len(table), pixel_size_angstrom)
    if MICROGRAPH_PIXEL_SIZE in table.fields:
        stated = table.rows[MICROGRAPH_PIXEL_SIZE].astype(np.float64)
        size = np.where(stated > 0, stated, size)
    return coordinates_px(table.rows) * size[:, None]


def coordinates_px(rows: NDArray[np.void]) -> FloatArray:
    """Where on its micrograph each particle lies, in pixels of the micrograph, (n, 2) as (x, y)."""
    share = np.stack([rows[name].astype(np.float64) for name in PLACE[:2]], axis=1)
    return share * rows[PLACE[2]].astype(np.float64)[:, ::-1]


def _poses(table: CryosparcTable, pixel_size_angstrom: float) -> Poses | None:
    if not {"alignments3D/pose", "alignments3D/shift"} <= set(table.fields):
        return None
    rotations = Rotation.from_rotvec(table.numbers("alignments3D/pose")).as_matrix().swapaxes(1, 2)
    shifts = table.numbers("alignments3D/shift")
    if "alignments3D/psize_A" in table.fields:
        scale = table.numbers("alignments3D/psize_A") / pixel_size_angstrom
        # A size of 0 stands for shifts that were never refined.
        shifts = shifts * np.where(scale > 0, scale, 1.0)[:, None]
    return Poses(np.ascontiguousarray(rotations), shifts)
