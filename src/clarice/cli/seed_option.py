"""Seeds as options: those that every step of the work can draw from."""

from __future__ import annotations

from typing import Any

import typer

from clarice.core.seeds import LARGEST_SEED


def seed_option(what: str, name: str = "--seed") -> Any:
    """An option that takes a seed, with `what` as its help."""
    return typer.Option(name, min=0, max=LARGEST_SEED - 1, help=what)
