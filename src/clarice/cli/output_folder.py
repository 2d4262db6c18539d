"""Where a command writes its files."""

from __future__ import annotations

import os
from pathlib import Path

from clarice.core.errors import OutputError


def make_folder(output: Path) -> None:
    """Makes the output folder first, so that no work is done for a place that refuses it. Raises OutputError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {error.strerror or error}") from error
    if not os.access(output, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {output}: permission denied")
