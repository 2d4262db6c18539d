"""Files that are either whole or absent, and stay so when the process is killed or the power fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clarice.io.atomic import writing


def sync(path: Path) -> None:
    """Waits until `path` (a file, or a folder's list of names) is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing_durably(path: Path) -> Iterator[Path]:
    """`clarice.io.atomic.writing`, and on leaving the new name is on the disk as well as the content."""
    with writing(path) as temporary:
        yield temporary
    sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes `content` to `path` as indented JSON, durably. NaN is refused: JSON has no name for it."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with writing_durably(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
