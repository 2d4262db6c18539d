"""How many of what, in words."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `counted(1, "box", "boxes")` is "1 box"; `many` is `one` with an s if absent."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
