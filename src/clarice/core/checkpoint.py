"""Where long work keeps its state, without knowing what keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class CheckpointStore(Protocol):
    """Holds the latest state of one piece of work; what is loaded equals what was saved bit for bit."""

    def save(self, state: Mapping[str, Any], step: int) -> None: ...

    def load(self) -> tuple[dict[str, Any], int] | None: ...


class Forgetful:
    """Keeps nothing: for short work and for tests."""

    def save(self, state: Mapping[str, Any], step: int) -> None:
        """Drops the state."""

    def load(self) -> tuple[dict[str, Any], int] | None:
        """Always None."""
        return None
