"""An array for a while: in memory, or, where that would be much of it, in a file beside the results."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import OutputError

IN_MEMORY_BYTES = 1 << 30

_folder: ContextVar[Path | None] = ContextVar("folder of large arrays", default=None)


@contextmanager
def large_arrays_in(folder: Path) -> Iterator[None]:
    """Large arrays made meanwhile lie in `folder`, whose disk was looked at, instead of the system's temporary one."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


@contextmanager
def large_array(shape: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """A float32 array of undefined content, gone afterwards, whatever ends the process.

    Raises OutputError when the disk has no room for it.
    """
    size = 4 * math.prod(shape)
    if size <= IN_MEMORY_BYTES:
        yield np.empty(tuple(shape), dtype=np.float32)
        return
    folder = _folder.get() or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would end the process at the first page it lacks
                os.posix_fallocate(file.fileno(), 0, size)
            array: NDArray[np.float32] = np.memmap(file, mode="w+", dtype=np.float32, shape=tuple(shape))
    except OSError as error:
        raise OutputError(f"{folder} has no room for {size / 2**30:.1f} GB of images: make some, then go on") from error
    yield array
