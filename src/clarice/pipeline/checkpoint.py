"""Checkpoints inside a long stage, so that a killed run goes on from the middle with the same numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clarice.pipeline.durable import writing_durably

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The latest saved state of one piece of work, valid for one fingerprint of the stage's inputs.

    A state is a mapping of tensors, numbers, strings, None, and lists, tuples and dicts of these; a random
    generator goes in as `generator.get_state()`. What is loaded equals what was saved bit for bit.
    """

    path: Path
    inputs_hash: str

    def save(self, state: Mapping[str, Any], step: int) -> None:
        """Replaces the last checkpoint by `state` after `step`, in one step on the disk."""
        content = {"inputs_hash": self.inputs_hash, "step": step, "state": dict(state)}
        with writing_durably(self.path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)

    def load(self) -> tuple[dict[str, Any], int] | None:
        """The state and step saved last, on the CPU; None when there is none for these inputs."""
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001  whatever is wrong with the file, the work can start anew
            logger.warning("checkpoint %s is unreadable and is ignored: %s", self.path.name, error)
            return None
        if content["inputs_hash"] != self.inputs_hash:
            return None
        return content["state"], int(content["step"])
