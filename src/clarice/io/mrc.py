"""MRC and MRCS files: images read lazily by row, maps read whole, both written whole or not at all."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarice import __version__
from clarice.core.errors import InputError, OutputError
from clarice.core.particles import RowIndex
from clarice.io.atomic import writing
from clarice.io.bounded import read_at_most
from clarice.io.mrc_header import HEADER_BYTES, MrcHeader, make_header, read_header, reorder_axes

StoredType = Literal["float32", "float16"]
_MODE_OF: dict[str, int] = {"float32": 2, "float16": 12}
_FLOAT16_MAX = 65504.0


def inspect_mrc(path: Path | str) -> MrcHeader:
    """The checked header of an uncompressed MRC file; raises InputError when it cannot be read."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return read_header(path, file.read(HEADER_BYTES), path.stat().st_size)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class MrcSource:
    """The square sections of an MRC file as images, read from disk as they are asked for."""

    path: Path
    header: MrcHeader

    @classmethod
    def open(cls, path: Path | str) -> MrcSource:
        """Raises InputError when the file is unreadable or its sections are not square."""
        header = inspect_mrc(path)
        _, ny, nx = header.shape
        if ny != nx:
            raise InputError(f"{path} holds images of {nx} × {ny} pixels: particle images must be square")
        return cls(Path(path), header)

    @property
    def box(self) -> int:
        return self.header.shape[1]

    def __len__(self) -> int:
        return self.header.shape[0]

    def read(self, rows: RowIndex) -> NDArray[np.float32]:
        """Images of `rows` in that order, (len(rows), box, box) float32, values as stored."""
        try:
            stored = np.memmap(
                self.path,
                self.header.dtype,
                mode="r",
                offset=self.header.data_offset,
                shape=self.header.shape,
            )
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {self.path}: it changed or vanished after it was opened") from error
        return np.asarray(stored[rows], dtype=np.float32)


def read_mrc(path: Path | str, pixel_size_angstrom: float | None = None) -> tuple[NDArray[np.float32], float]:
    """A whole map or stack, plain or gzipped: (z, y, x) float32 and its pixel size in Å.

    `pixel_size_angstrom` replaces the header's. Raises InputError when neither is known, or the file is
    unreadable.
    """
    path = Path(path)
    header, data = _read_gzipped(path) if path.suffix == ".gz" else _read_plain(path)
    size = pixel_size_angstrom if pixel_size_angstrom is not None else header.pixel_size_angstrom
    if size is None:
        raise InputError(
            f"the header of {path} has no pixel size: write it there (field CELLA); --pixel-size is for particles"
        )
    array = reorder_axes(data, header.axis_order) if header.shape[0] > 1 else data
    return array, size


def _read_plain(path: Path) -> tuple[MrcHeader, NDArray[np.float32]]:
    header = inspect_mrc(path)
    with path.open("rb") as file:
        file.seek(header.data_offset)
        data = np.fromfile(file, dtype=header.dtype, count=math.prod(header.shape))
    return header, data.reshape(header.shape).astype(np.float32)


def _read_gzipped(path: Path) -> tuple[MrcHeader, NDArray[np.float32]]:
    try:
        with gzip.open(path) as file:
            raw = file.read(HEADER_BYTES)
            # A gzipped file does not tell its size: the header is read as if all of it were there, then
            # counted.
            header = read_header(path, raw, 2**62)
            rest = read_at_most(cast(BinaryIO, file), header.data_offset - HEADER_BYTES + header.data_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    read_header(path, raw, HEADER_BYTES + len(rest))
    data = np.frombuffer(rest, dtype=header.dtype, offset=header.data_offset - HEADER_BYTES)
    return header, data.reshape(header.shape).astype(np.float32)


@dataclass
class _RunningStatistics:
    """Minimum, maximum, mean and spread of values that arrive in chunks (Chan's pairwise update)."""

    count: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        count = values.size
        if count == 0:
            return
        mean = float(values.mean(dtype=np.float64))
        squares = float(((values - np.float64(mean)) ** 2).sum(dtype=np.float64))
        total = self.count + count
        delta = mean - self.mean
        self.squares += squares + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))

    def as_header(self) -> tuple[float, float, float, float]:
        # MRC2014: a maximum below the minimum, a mean below both and a negative rms say "not known".
        if self.count == 0 or not math.isfinite(self.mean):
            return -1.0, -2.0, -3.0, -1.0
        return self.minimum, self.maximum, self.mean, math.sqrt(self.squares / self.count)


@dataclass
class MrcStackWriter:
    """Appends images to an MRC stack, chunk by chunk; used as a context manager around one file.

    The header is completed and the file put in place when the block ends well; nothing is left when it does
    not. `mode` is "float32" (MRC mode 2) or "float16" (mode 12).
    """

    path: Path | str
    box: int
    pixel_size_angstrom: float
    mode: StoredType = "float32"
    count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        _mode_number(self.mode)
        _check_pixel_size(self.pixel_size_angstrom, self.path)
        self._statistics = _RunningStatistics()
        self._file: BinaryIO | None = None
        self._context = self._session()

    @contextmanager
    def _session(self) -> Iterator[MrcStackWriter]:
        with writing(self.path) as temporary, temporary.open("wb") as file:
            self._file = file
            file.write(bytes(HEADER_BYTES))
            try:
                yield self
            finally:
                self._file = None
            if self.count == 0:
                raise OutputError(f"nothing to write to {self.path}: the stack is empty")
            shape = (self.count, self.box, self.box)
            file.seek(0)
            file.write(_header_bytes(shape, self.mode, self.pixel_size_angstrom, False, self._statistics))

    def __enter__(self) -> MrcStackWriter:
        return self._context.__enter__()

    def __exit__(self, *exception: object) -> bool | None:
        return self._context.__exit__(*exception)  # type: ignore[arg-type]

    def append(self, images: ArrayLike) -> None:
        """Adds images (n, box, box); raises OutputError when their size or range does not fit."""
        if self._file is None:
            raise OutputError(f"{self.path} is not open: append images inside a with block")
        chunk = np.asarray(images, dtype=np.float32)
        if chunk.ndim != 3 or chunk.shape[1:] != (self.box, self.box):
            raise OutputError(f"cannot add images of shape {chunk.shape} to {self.path}: its box is {self.box}")
        stored = _as_stored(chunk, self.mode, self.path)
        self._statistics.add(stored.astype(np.float32))
        self._file.write(stored.tobytes())
        self.count += len(chunk)


def write_mrc(
    path: Path | str,
    array: ArrayLike,
    pixel_size_angstrom: float,
    mode: StoredType = "float32",
    is_volume: bool | None = None,
) -> None:
    """Writes a map (z, y, x), a stack (n, y, x) or one image (y, x).

    `is_volume` None takes a cubic array as a map unless the name ends in `.mrcs`. Raises OutputError.
    """
    values = np.asarray(array, dtype=np.float32)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.size == 0:
        raise OutputError(f"cannot write an array of shape {values.shape} to {path}: two or three axes are needed")
    if is_volume is None:
        is_volume = len(set(values.shape)) == 1 and values.shape[0] > 1 and Path(path).suffix != ".mrcs"
    _check_pixel_size(pixel_size_angstrom, path)
    stored = _as_stored(values, mode, path)
    statistics = _RunningStatistics()
    for section in stored:
        statistics.add(section.astype(np.float32))
    shape = (values.shape[0], values.shape[1], values.shape[2])
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(_header_bytes(shape, mode, pixel_size_angstrom, is_volume, statistics))
        file.write(stored.tobytes())


def _header_bytes(
    shape: tuple[int, int, int],
    mode: StoredType,
    pixel_size: float,
    is_volume: bool,
    statistics: _RunningStatistics,
) -> bytes:
    label = f"Clarice {__version__}"
    return make_header(shape, _mode_number(mode), pixel_size, is_volume, statistics.as_header(), label)


def _mode_number(mode: str) -> int:
    if mode not in _MODE_OF:
        raise OutputError(f"MRC files are written as float32 or float16, not as {mode}")
    return _MODE_OF[mode]


def _check_pixel_size(pixel_size_angstrom: float, path: Path | str) -> None:
    if not (math.isfinite(pixel_size_angstrom) and pixel_size_angstrom > 0):
        raise OutputError(f"cannot write {path} with a pixel size of {pixel_size_angstrom} Å: it must be positive")


def _as_stored(values: NDArray[np.float32], mode: StoredType, path: Path | str) -> NDArray[np.floating]:
    if mode == "float32":
        return np.ascontiguousarray(values, dtype="<f4")
    peak = float(np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values)))
    if peak > _FLOAT16_MAX:
        raise OutputError(f"cannot write {path} as float16: the value {peak:.4g} is beyond 65504; use float32")
    return np.ascontiguousarray(values, dtype="<f2")
