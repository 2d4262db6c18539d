"""What the README promises of a run folder."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def listed_outputs() -> set[str]:
    """Names of the files that every run leaves, from the README's table; `particles.cs` comes with `.cs` input only."""
    table = README.read_text(encoding="utf-8").partition("| file in the run folder")[2]
    return set(re.findall(r"`([\w.]+\.\w+)`", table.partition("\n\n")[0])) - {"particles.cs"}
