"""The averaged weights at the lowest validation error, and the record that goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from clarice.core.errors import InputError
from clarice.io.weights import read_weights, write_weights
from clarice.training.checkpoint import BEFORE_DECAY, Checkpoints
from clarice.training.summary import BEST_WEIGHTS
from clarice.training.tensor_files import read_tensors, write_tensors


class BestWeights:
    """`record` is after how many images the weights in the run folder were taken, and their error; or None."""

    def __init__(self, run_folder: Path, checkpoints: Checkpoints) -> None:
        self.record: tuple[int, float] | None = None
        self._path = run_folder / BEST_WEIGHTS
        self._aside = checkpoints.folder / f"best-{BEFORE_DECAY}.json"
        self._shard_mb = checkpoints.shard_mb

    def judge(self, images: int, error: float, weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
        """Keeps `weights` if none had so small an error; those from before the first step are no candidates."""
        if images and (self.record is None or error < self.record[1]):
            self.record = (images, error)
            write_weights(self._path, weights, card)

    def lay_aside(self) -> None:
        """Keeps a copy for the course that begins at the checkpoint from before the decay."""
        if self.record is not None:
            best = read_weights(self._path)
            facts = {"images": self.record[0], "card": best.card}
            write_tensors(self._aside, best.tensors, facts, f"{self.record[0]:012d}", self._shard_mb)

    def go_back(self, record: tuple[int, float] | None) -> None:
        """Takes up the copy laid aside at `record`; where there is none, nothing counts as best so far."""
        self.record = None
        self._path.unlink(missing_ok=True)
        with suppress(InputError):
            tensors, facts = read_tensors(self._aside)
            if record is not None and facts["images"] == record[0]:
                write_weights(self._path, tensors, facts["card"])
                self.record = record
