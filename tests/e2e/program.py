"""Starts `clarice` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = (sys.executable, "-c", "from clarice.cli.app import main; main()")


def call(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`clarice WORDS`, its output captured as text."""
    command = [*PROGRAM, *map(str, words)]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
