"""Masks from files: what is one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clarice.core.errors import InputError, UsageError
from clarice.io.mrc import write_mrc
from clarice.metrics.map_files import Cube, read_cube, soft_mask

BOX = 12


@pytest.fixture
def grid(tmp_path: Path) -> Cube:
    write_mrc(tmp_path / "map.mrc", np.ones((BOX, BOX, BOX), dtype=np.float32), 2.0, is_volume=True)
    return read_cube(tmp_path / "map.mrc")


def written(path: Path, lowest: float, highest: float) -> Path:
    values = np.full((BOX, BOX, BOX), lowest, dtype=np.float32)
    values[3:9, 3:9, 3:9] = highest
    write_mrc(path, values, 2.0, is_volume=True)
    return path


def test_a_mask_is_taken_as_it_is_but_for_overshoots(grid: Cube, tmp_path: Path) -> None:
    weights = soft_mask(written(tmp_path / "mask.mrc", -0.01, 1.02), None, grid)
    assert weights is not None
    assert (weights.min(), weights.max()) == (0, 1)
    assert weights.sum() == 6**3


@pytest.mark.parametrize(("lowest", "highest"), [(-0.16, 0.7), (0.0, 3.0)])
def test_a_map_is_no_mask(grid: Cube, tmp_path: Path, lowest: float, highest: float) -> None:
    with pytest.raises(InputError, match=r"half1\.mrc is no mask: its values run from"):
        soft_mask(written(tmp_path / "half1.mrc", lowest, highest), None, grid)


def test_empty_masks_and_two_masks_are_refused(grid: Cube, tmp_path: Path) -> None:
    path = written(tmp_path / "empty.mrc", 0.0, 0.0)
    with pytest.raises(InputError, match="zero everywhere"):
        soft_mask(path, None, grid)
    with pytest.raises(UsageError, match="exclude each other"):
        soft_mask(path, 10.0, grid)
    with pytest.raises(UsageError, match="does not lie"):
        soft_mask(None, 25.0, grid)
    assert soft_mask(None, None, grid) is None
