"""The maps a command writes, and what it says of their resolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.cli.console import console
from clarice.io.mrc import write_mrc


def write_maps(folder: Path, pixel_size_angstrom: float, volumes: Mapping[str, NDArray[np.float32]]) -> None:
    """Writes each volume (L, L, L) as NAME.mrc into `folder`. Raises OutputError."""
    for name, volume in volumes.items():
        write_mrc(folder / f"{name}.mrc", np.ascontiguousarray(volume), pixel_size_angstrom, is_volume=True)


def show_resolution(resolution_angstrom: float, pixel_size_angstrom: float, folder: Path) -> None:
    """Prints the resolution of `map.mrc`, with its threshold and Nyquist."""
    console.print(
        f"{resolution_angstrom:.1f} Å at FSC 0.143 (Nyquist {2 * pixel_size_angstrom:.1f} Å): {folder / 'map.mrc'}",
        markup=False,
    )
