"""The maps a command writes, and what it says of their resolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.cli.console import console
from clarice.io.mrc import write_mrc
from clarice.metrics.map_files import is_same_map
from clarice.pipeline.fsc_files import ONE_MAP


def write_maps(folder: Path, pixel_size_angstrom: float, volumes: Mapping[str, NDArray[np.float32]]) -> None:
    """Writes each volume (L, L, L) as NAME.mrc into `folder`. Raises OutputError."""
    for name, volume in volumes.items():
        write_mrc(folder / f"{name}.mrc", np.ascontiguousarray(volume), pixel_size_angstrom, is_volume=True)


def half_map_warnings(half1: NDArray[np.float32], half2: NDArray[np.float32]) -> list[str]:
    """What makes the comparison of two half maps (L, L, L) worthless."""
    return [ONE_MAP] if is_same_map(half1, half2) else []


def show_resolution(words: str, pixel_size_angstrom: float, folder: Path) -> None:
    """Prints the resolution of `map.mrc` in `words`, with its threshold and Nyquist."""
    console.print(f"{words} at FSC 0.143 (Nyquist {2 * pixel_size_angstrom:.1f} Å): {folder / 'map.mrc'}", markup=False)
