"""Arrays that may wait on the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clarice.core import large_array as module
from clarice.core.errors import OutputError
from clarice.core.large_array import large_array, large_arrays_in


def test_a_small_one_is_in_memory() -> None:
    with large_array((2, 3)) as array:
        assert array.shape == (2, 3)
        assert type(array) is np.ndarray


def test_a_large_one_lies_in_the_named_folder_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    asked: list[Any] = []
    opened = module.tempfile.TemporaryFile
    monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda **given: asked.append(given) or opened(**given))
    with large_arrays_in(tmp_path), large_array((5, 4)) as array:
        array[3] = 7
        assert isinstance(array, np.memmap)
        assert float(array.sum()) == 28
        assert list(tmp_path.iterdir()) == []  # it has no name that a kill would leave behind
    assert asked == [{"dir": tmp_path}]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with large_arrays_in(tmp_path), pytest.raises(OutputError, match="has no room"), large_array((5, 4)):
        pass
