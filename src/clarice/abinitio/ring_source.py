"""What ab initio methods ask of prepared particles."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clarice.geometry.expectation import RingStack
from clarice.geometry.polar import FourierRings

Rows = NDArray[np.int64]


class RingSource(Protocol):
    """Particles with white noise of variance 1 that can be put on Fourier rings, some rows at a time."""

    @property
    def box(self) -> int: ...

    def __len__(self) -> int: ...

    def rings(self, rings: FourierRings, rows: Rows) -> RingStack:
        """Filtered Fourier rings of `rows`, in that order."""
        ...
