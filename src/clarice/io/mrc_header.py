"""The 1,024-byte header of MRC2014 files, read from either byte order and from the odd dialects in use."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError
from clarice.io.refusals import empty_file

HEADER_BYTES = 1024
MODE_TYPES: dict[int, str] = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED_MODES = {
    3: "complex 16-bit integers",
    4: "complex 32-bit floats",
    16: "RGB colours",
    101: "packed 4-bit integers",
}
_KNOWN_MODES = {*MODE_TYPES, *_REFUSED_MODES}
_IMOD_STAMP = 1146047817
# Below and above these, a header's cell is a placeholder, not a measurement.
_PLAUSIBLE_PIXEL_ANGSTROM = (0.05, 200.0)


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC file says about itself; `warnings` lists every departure from MRC2014.

    `shape` is (sections, rows, columns) = (z, y, x); `pixel_size_angstrom` is None where the header has none.
    `is_volume` is None where the header leaves open whether the sections are one map or a stack of images.
    """

    shape: tuple[int, int, int]
    mode: int
    dtype: np.dtype[np.generic]
    data_offset: int
    pixel_size_angstrom: float | None
    is_volume: bool | None
    axis_order: tuple[int, int, int]
    warnings: tuple[str, ...]

    @property
    def data_bytes(self) -> int:
        """Size of the image data, bytes."""
        return int(self.shape[0]) * int(self.shape[1]) * int(self.shape[2]) * self.dtype.itemsize


def read_header(path: Path, raw: bytes, file_bytes: int) -> MrcHeader:
    """The header in `raw` (the file's first 1,024 bytes), checked against the file's size.

    Raises InputError when it is no MRC header, when its mode cannot be read, or when the file is truncated.
    """
    if not raw:
        raise empty_file(path)
    if len(raw) < HEADER_BYTES:
        raise InputError(f"{path} is not an MRC file: it has {len(raw)} bytes, less than the 1024 of an MRC header")
    order, warnings = _byte_order(path, raw)
    nx, ny, nz, mode, _, _, _, mx, my, mz = struct.unpack(f"{order}10i", raw[:40])
    if mode in _REFUSED_MODES:
        raise InputError(
            f"{path} holds {_REFUSED_MODES[mode]} (MRC mode {mode}), which is not supported: convert it to mode 2 first"
        )
    ispg, extended = struct.unpack(f"{order}2i", raw[88:96])
    if extended < 0:
        warnings.append(f"the length of the extended header is {extended}: taken as 0")
        extended = 0
    header = MrcHeader(
        shape=(nz, ny, nx),
        mode=mode,
        dtype=_data_type(order, mode, raw),
        data_offset=HEADER_BYTES + extended,
        pixel_size_angstrom=_pixel_size(order, raw, mx, warnings),
        is_volume=_is_volume(ispg, (nz, ny, nx), (mz, my, mx)),
        axis_order=_axis_order(order, raw, warnings),
        warnings=tuple(warnings),
    )
    return _checked_size(path, header, file_bytes)


def _checked_size(path: Path, header: MrcHeader, file_bytes: int) -> MrcHeader:
    expected = header.data_offset + header.data_bytes
    if file_bytes < expected:
        nz, ny, nx = header.shape
        raise InputError(
            f"{path} is truncated: {nz} sections of {ny} × {nx} in mode {header.mode} need {expected} bytes, "
            f"the file has {file_bytes}; copy it again from its source"
        )
    if file_bytes > expected:
        extra = (*header.warnings, f"{file_bytes - expected} bytes follow the image data: ignored")
        return MrcHeader(**{**vars(header), "warnings": extra})
    return header


def _plausible(order: str, raw: bytes) -> bool:
    nx, ny, nz, mode = struct.unpack(f"{order}4i", raw[:16])
    return mode in _KNOWN_MODES and all(0 < edge < 2**24 for edge in (nx, ny, nz))


def _byte_order(path: Path, raw: bytes) -> tuple[str, list[str]]:
    """The byte order ("<" or ">") under which the header makes sense, and what was odd about it."""
    stamp, warnings = raw[212:214], []
    if raw[208:211] != b"MAP":
        warnings.append("the header does not carry the word MAP")
    stated = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}.get(stamp)
    if stated is None:
        warnings.append("the header does not state its byte order")
    for order in (stated, "<", ">"):
        if order is not None and _plausible(order, raw):
            if stated is not None and order != stated:
                warnings.append("the header states the wrong byte order")
            return order, warnings
    raise InputError(f"{path} is not an MRC file: its first 16 bytes are no image size and data mode")


def _data_type(order: str, mode: int, raw: bytes) -> np.dtype[np.generic]:
    if mode == 0:
        # IMOD's flag word: its lowest bit says that bytes are signed; without the stamp MRC2014 (signed)
        # holds.
        stamp, flags = struct.unpack(f"{order}2i", raw[152:160])
        return np.dtype("u1" if stamp == _IMOD_STAMP and not flags & 1 else "i1")
    return np.dtype(order + MODE_TYPES[mode])


def _pixel_size(order: str, raw: bytes, mx: int, warnings: list[str]) -> float | None:
    (cell_x,) = struct.unpack(f"{order}f", raw[40:44])
    if mx <= 0 or not np.isfinite(cell_x) or cell_x <= 0:
        return None
    size = float(cell_x) / mx
    low, high = _PLAUSIBLE_PIXEL_ANGSTROM
    if not low <= size <= high:
        warnings.append(f"the pixel size in the header, {size:.3g} Å, is implausible: ignored")
        return None
    return size


def _is_volume(ispg: int, shape: tuple[int, int, int], intervals: tuple[int, int, int]) -> bool | None:
    """MRC2014: space group 0 and one z interval make a stack, 1 a volume; many programs write neither."""
    nz, ny, nx = shape
    if nz == 1 or not nx == ny == nz:
        return False
    if ispg == 0 and intervals[0] == 1:
        return False
    return True if ispg == 1 else None


def _axis_order(order: str, raw: bytes, warnings: list[str]) -> tuple[int, int, int]:
    axes: tuple[int, int, int] = struct.unpack(f"{order}3i", raw[64:76])
    if sorted(axes) != [1, 2, 3]:
        warnings.append("the header does not say which axis is which: x, y, z assumed")
        return (1, 2, 3)
    return axes


def make_header(
    shape: tuple[int, int, int],
    mode: int,
    pixel_size_angstrom: float,
    is_volume: bool,
    statistics: tuple[float, float, float, float],
    label: str,
) -> bytes:
    """A little-endian MRC2014 header; `statistics` is (minimum, maximum, mean, standard deviation)."""
    nz, ny, nx = shape
    intervals_z = nz if is_volume else 1
    raw = bytearray(HEADER_BYTES)
    struct.pack_into("<10i", raw, 0, nx, ny, nz, mode, 0, 0, 0, nx, ny, intervals_z)
    cell = (nx * pixel_size_angstrom, ny * pixel_size_angstrom, intervals_z * pixel_size_angstrom)
    struct.pack_into("<6f", raw, 40, *cell, 90.0, 90.0, 90.0)
    struct.pack_into("<3i", raw, 64, 1, 2, 3)
    minimum, maximum, mean, deviation = statistics
    struct.pack_into("<3f", raw, 76, minimum, maximum, mean)
    struct.pack_into("<2i", raw, 88, 1 if is_volume else 0, 0)
    struct.pack_into("<i", raw, 108, 20141)
    raw[208:216] = b"MAP \x44\x44\x00\x00"
    struct.pack_into("<f", raw, 216, deviation)
    struct.pack_into("<i", raw, 220, 1)
    raw[224:304] = label.encode("ascii", "replace")[:80].ljust(80)
    return bytes(raw)


def reorder_axes(volume: NDArray[np.float32], axis_order: tuple[int, int, int]) -> NDArray[np.float32]:
    """A volume stored as (sections, rows, columns) turned to (z, y, x).

    `axis_order` says which axis (1 x, 2 y, 3 z) columns, rows and sections run along, as MAPC, MAPR, MAPS do.
    """
    position = {axis: 2 - place for place, axis in enumerate(axis_order)}
    return np.ascontiguousarray(np.transpose(volume, (position[3], position[2], position[1])))
