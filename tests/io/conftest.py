"""Small stacks on disk for the tests of reading and writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clarice.io.mrc import write_mrc

StackMaker = Callable[..., NDArray[np.float32]]


@pytest.fixture
def make_stack(tmp_path: Path) -> StackMaker:
    """Writes `name` with `count` random images and returns them."""

    def make(name: str, count: int, box: int = 8, pixel_size: float = 2.0) -> NDArray[np.float32]:
        images = np.random.default_rng(len(name) + count).normal(size=(count, box, box)).astype(np.float32)
        write_mrc(tmp_path / name, images, pixel_size, is_volume=False)
        return images

    return make
