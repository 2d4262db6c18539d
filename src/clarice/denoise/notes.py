"""What a method can tell beside its images: where each came from, and how wrong it expects to be."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clarice.core.particles import FloatArray, RowIndex


@dataclass(frozen=True)
class Sources:
    """The s other images of the set that weighed most in each of k images, heaviest first.

    `row` (k, s); `angle_deg` (k, s): turned by so much, from +x towards +y, the source lies on the image;
    `weight` (k, s): its share of the attention over all blocks, heads and angles; `kept` (k,): what the image kept for
    itself. All sources, listed or not, and `kept` sum to 1. Where there are fewer sources, row is −1 and weight 0.
    """

    row: NDArray[np.int64]
    angle_deg: FloatArray
    weight: FloatArray
    kept: FloatArray


class Notes(Protocol):
    """Hears what a method tells of some rows of its set, in any order, every row once."""

    sources_wanted: int

    def sources(self, rows: RowIndex, sources: Sources) -> None:
        """Where images came from."""
        ...

    def expected_error(self, rows: RowIndex, squared: FloatArray) -> None:
        """Expected squared error (k, L // 2 + 1) per coefficient of the orthonormal transform, by Fourier shell."""
        ...

    def deviation(self, rows: RowIndex, images: NDArray[np.float32]) -> None:
        """Standard deviation (k, L, L) of each pixel over samples of what the images may be."""
        ...


class Notebook:
    """Keeps what is told of `count` images: up to `sources_wanted` sources each, and the errors if any.

    `deviations` (count, L, L) is filled by methods that sample; without it theirs are not kept.
    """

    def __init__(self, count: int, sources_wanted: int = 5, deviations: NDArray[np.float32] | None = None) -> None:
        self.sources_wanted = sources_wanted
        self.deviations = deviations
        shape = (count, sources_wanted)
        self.found = Sources(np.full(shape, -1), np.zeros(shape), np.zeros(shape), np.full(count, np.nan))
        self.error_by_shell: FloatArray | None = None
        self._count = count
        self._first = threading.Lock()

    def sources(self, rows: RowIndex, sources: Sources) -> None:
        for name in ("row", "angle_deg", "weight", "kept"):
            getattr(self.found, name)[rows] = getattr(sources, name)

    def expected_error(self, rows: RowIndex, squared: FloatArray) -> None:
        with self._first:  # of several threads that tell, one makes the array
            if self.error_by_shell is None:
                self.error_by_shell = np.full((self._count, squared.shape[1]), np.nan)
        self.error_by_shell[rows] = squared

    def deviation(self, rows: RowIndex, images: NDArray[np.float32]) -> None:
        if self.deviations is not None:
            self.deviations[rows] = images

    @property
    def has_sources(self) -> bool:
        """Whether the method told where every image came from."""
        return not bool(np.isnan(self.found.kept).any())


class Renumbered:
    """Hears notes about a part of a set and passes them on; `rows` are those of the set that the part stands for."""

    def __init__(self, notes: Notes, rows: RowIndex) -> None:
        self.sources_wanted = notes.sources_wanted
        self._notes, self._rows = notes, rows

    def sources(self, rows: RowIndex, sources: Sources) -> None:
        known = sources.row >= 0
        self._notes.sources(self._rows[rows], replace(sources, row=np.where(known, self._rows[sources.row], -1)))

    def expected_error(self, rows: RowIndex, squared: FloatArray) -> None:
        self._notes.expected_error(self._rows[rows], squared)

    def deviation(self, rows: RowIndex, images: NDArray[np.float32]) -> None:
        self._notes.deviation(self._rows[rows], images)
