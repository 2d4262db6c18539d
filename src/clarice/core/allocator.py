"""The C library's allocator, told for a while to keep what it was given back.

Blocks of more than 32 MB it otherwise takes from the system anew each time, page by page. Training makes and frees such
tensors all the time: on two cores, sets of 256 images then take twice as long.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt in glibc's malloc.h, their usual values, and the most it takes.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_USUAL = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}
_MOST = 2**31 - 1


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Meanwhile large blocks are served from memory the process already had; False where the C library is not glibc.

    For long work whose tensors come in the same sizes again and again. In the end what is free goes back to the system.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, TypeError, AttributeError):  # no such library, or no such functions in it
        yield False
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _MOST)
    try:
        yield True
    finally:
        for parameter, usual in _USUAL.items():
            mallopt(parameter, usual)
        trim(0)
