"""The C library's allocator, told to keep what it was given back.

Blocks of more than 32 MB it otherwise takes from the system anew each time, page by page. Training makes and frees such
tensors all the time: on two cores, sets of 256 images then take twice as long.
"""

from __future__ import annotations

import ctypes

# Parameters of mallopt in glibc's malloc.h, and the most it takes.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Lets this process serve large blocks from memory it already had; False where the C library is not glibc.

    What was freed stays with the process: for long work whose tensors come in the same sizes again and again.
    """
    try:
        libc = ctypes.CDLL(None)
        settled = libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, _MOST)
    except (OSError, TypeError, AttributeError):  # no such library, or no such function in it
        return False
    return bool(settled)
