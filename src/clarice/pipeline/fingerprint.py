"""Fingerprints of files and values, which decide whether a stage's inputs have changed."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from clarice.core.errors import InputError

WHOLE_LIMIT_BYTES = 1 << 28
BLOCK_BYTES = 1 << 18
SAMPLED_BLOCKS = 256


def fingerprint_value(value: Any) -> str:
    """sha256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_file(path: Path) -> str:
    """sha256 of the content up to 256 MiB; of size, time of change and 256 spread blocks beyond.

    A stack of tens of gigabytes is thus told apart in a second. Its time of change counts, because the blocks
    alone would miss an edit between them; a copy that loses the time is taken for new, at no risk.
    """
    size = path.stat().st_size
    if size <= WHOLE_LIMIT_BYTES:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256(f"sampled {size} {path.stat().st_mtime_ns}".encode())
    with path.open("rb") as file:
        for block in range(SAMPLED_BLOCKS):
            file.seek((size - BLOCK_BYTES) * block // (SAMPLED_BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()


def fingerprint_source(path: Path) -> str:
    """`fingerprint_file` of a file outside the run folder, remembered while the file's status stays the same.

    Raises InputError when it is missing or unreadable.
    """
    try:
        status = path.stat()
        return _remembered(path, (status.st_size, status.st_mtime_ns, status.st_ino))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}): check the path and its permissions") from error


@functools.lru_cache(maxsize=65536)
def _remembered(path: Path, status: tuple[int, int, int]) -> str:  # noqa: ARG001  the key of the memory
    return fingerprint_file(path)
