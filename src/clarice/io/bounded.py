"""Reads that no file can make larger than the file is."""

from __future__ import annotations

from typing import BinaryIO


def read_at_most(file: BinaryIO, limit: int) -> bytes:
    """Up to `limit` bytes of `file`; memory grows with what is there, not with what was asked for."""
    pieces: list[bytes] = []
    while limit > 0 and (piece := file.read(min(limit, 1 << 24))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)
