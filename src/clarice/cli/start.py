"""Where the `clarice` command begins: what it imports takes seconds, in which Ctrl-C is answered in words as well."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Entry point of the `clarice` command."""
    try:
        from clarice.cli.app import main as command
    except KeyboardInterrupt:
        sys.stderr.write("clarice: interrupted before anything was done\n")
        sys.exit(INTERRUPTED)
    command()
