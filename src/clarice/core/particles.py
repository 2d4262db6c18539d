"""The particle set: images read lazily, with the optics and poses that belong to their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
RowIndex = NDArray[np.int64]


def spread_rows(rows: RowIndex, most: int) -> RowIndex:
    """At most `most` of `rows`, evenly spaced among them, the first and the last included."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64))]


class ImageSource(Protocol):
    """Images that can be read by row, in any order, without holding the whole stack in memory."""

    @property
    def box(self) -> int:
        """Edge of the square images, pixels."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: RowIndex) -> NDArray[np.float32]:
        """Images of `rows` in that order, (len(rows), box, box), axes (y, x), values as stored."""
        ...


class ParticleTable(Protocol):
    """The metadata file the particles came from, row for row, so that every column can be written back."""

    def __len__(self) -> int: ...

    def subset(self, rows: RowIndex) -> Self:
        """The same table with only `rows`, in that order."""
        ...


@dataclass(frozen=True)
class Optics:
    """Contrast-transfer parameters, one value a particle, each an (n,) float64 array.

    Defocus is positive for underfocus; `defocus_angle_deg` runs from +x towards +y.
    """

    voltage_kv: FloatArray
    spherical_aberration_mm: FloatArray
    amplitude_contrast: FloatArray
    defocus_u_angstrom: FloatArray
    defocus_v_angstrom: FloatArray
    defocus_angle_deg: FloatArray
    phase_shift_deg: FloatArray
    bfactor_angstrom2: FloatArray

    def __len__(self) -> int:
        return len(self.voltage_kv)

    def subset(self, rows: RowIndex) -> Optics:
        """The optics of `rows`, in that order."""
        return Optics(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Poses:
    """Orientation and shift of each particle.

    `rotations` (n, 3, 3) are active matrices: `x_view = R @ x_molecule`. `shifts_px` (n, 2) is the (x, y)
    translation that centres the particle, in pixels of the set's images: the content sits at `x_view − shift`.
    """

    rotations: FloatArray
    shifts_px: FloatArray

    def __len__(self) -> int:
        return len(self.rotations)

    def subset(self, rows: RowIndex) -> Poses:
        """The poses of `rows`, in that order."""
        return Poses(self.rotations[rows], self.shifts_px[rows])


@dataclass(frozen=True)
class ParticleSet:
    """n particle images of one box and one pixel size, with everything known about each row.

    `optics`, `poses`, `half_set` (1 or 2; 0 where unknown), `micrograph`, `centre_angstrom` and `class_number` are None
    where the source says nothing about them. `centre_angstrom` (n, 2) is where on its micrograph a box was cut, (x, y)
    in Å, NaN where unknown. `table` is the source's own metadata, for writing back; None for made sets.
    """

    images: ImageSource
    pixel_size_angstrom: float
    optics: Optics | None = None
    poses: Poses | None = None
    half_set: NDArray[np.int8] | None = None
    micrograph: NDArray[np.str_] | None = None
    centre_angstrom: FloatArray | None = None
    class_number: NDArray[np.int32] | None = None
    optics_group: NDArray[np.int32] | None = None
    table: ParticleTable | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def box(self) -> int:
        """Edge of the square images, pixels."""
        return self.images.box

    def read(self, rows: RowIndex | None = None) -> NDArray[np.float32]:
        """Images of `rows` (all by default), (n, box, box), axes (y, x), values as stored."""
        return self.images.read(np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64))

    def subset(self, rows: RowIndex) -> ParticleSet:
        """A view of `rows`, in that order; no image is read or copied."""
        rows = np.asarray(rows, dtype=np.int64)
        changed: dict[str, Any] = {"images": SubsetSource.of(self.images, rows)}
        for name in ("optics", "poses", "table"):
            value = getattr(self, name)
            changed[name] = None if value is None else value.subset(rows)
        for name in ("half_set", "micrograph", "centre_angstrom", "class_number", "optics_group"):
            value = getattr(self, name)
            changed[name] = None if value is None else value[rows]
        return replace(self, **changed)

    def chunks(self, size: int) -> Iterator[tuple[RowIndex, NDArray[np.float32]]]:
        """Row numbers and images, `size` at a time, in order."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield rows, self.images.read(rows)


@dataclass(frozen=True)
class ArraySource:
    """Images already in memory (or memory-mapped), (n, L, L)."""

    array: NDArray[np.float32]

    @property
    def box(self) -> int:
        return int(self.array.shape[-1])

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: RowIndex) -> NDArray[np.float32]:
        return np.asarray(self.array[rows], dtype=np.float32)


@dataclass(frozen=True)
class SubsetSource:
    """Chosen rows of another source."""

    parent: ImageSource
    rows: RowIndex

    @classmethod
    def of(cls, source: ImageSource, rows: RowIndex) -> SubsetSource:
        """A view of `rows`; a view of a view points straight at the first source."""
        return cls(source.parent, source.rows[rows]) if isinstance(source, SubsetSource) else cls(source, rows)

    @property
    def box(self) -> int:
        return self.parent.box

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: RowIndex) -> NDArray[np.float32]:
        return self.parent.read(self.rows[rows])
