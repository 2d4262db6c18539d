"""What a stage's function is handed: its files, its checkpoints, and whom to tell."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarice.core.progress import Progress, silent
from clarice.io.kept_results import Keeping, results_kept
from clarice.pipeline.checkpoint import Checkpoint
from clarice.pipeline.durable import write_json
from clarice.pipeline.run_folder import RunFolder
from clarice.pipeline.stages import Stage


@dataclass(frozen=True)
class Work:
    """One stage at work in a run folder.

    Only files that the stage declares can be had, so that what it depends on is always what is checked.
    """

    run: RunFolder
    stage: Stage
    inputs_hash: str
    listener: Progress = silent

    def input(self, name: str) -> Path:
        """The file `name` of an earlier stage, to be read."""
        if name not in self.stage.reads:
            raise ValueError(f"stage {self.stage.name} does not declare that it reads {name}")
        return self.run.path(name)

    def output(self, name: str) -> Path:
        """The file `name`, to be written under a temporary name and renamed (`clarice.io.atomic`)."""
        if name not in self.stage.outputs:
            raise ValueError(f"stage {self.stage.name} does not declare that it writes {name}")
        return self.run.path(name)

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of an earlier stage."""
        return json.loads(self.input(name).read_text(encoding="utf-8"))

    def write_json(self, name: str, content: Any) -> None:
        """Writes a JSON output."""
        write_json(self.output(name), content)

    def checkpoint(self, name: str = "state") -> Checkpoint:
        """A place to save progress in; `name` keeps several apart (one a random start, one a half set)."""
        return Checkpoint(self.run.working_folder(self.stage.name) / f"{name}.pt", self.inputs_hash)

    @contextmanager
    def keeping_results(self) -> Iterator[None]:
        """What `map_parts` finds meanwhile is kept until the stage is done."""
        keeping = Keeping(self.run.working_folder(self.stage.name) / "results")
        keeping.begin(self.inputs_hash)
        with results_kept(keeping):
            yield

    def warn(self, message: str) -> None:
        """Records a warning, which the report shows first."""
        self.run.warn(self.stage.name, message)

    def say(self, message: str) -> None:
        """Writes to the log and to whoever watches."""
        self.run.say(f"{self.stage.name}: {message}")

    @property
    def log(self) -> logging.Logger:
        """The run's log, for detail that nobody needs to watch."""
        return logging.getLogger(f"clarice.{self.stage.name}")

    def progress(self, label: str, done: int, total: int) -> None:
        """Tells how far the work is (a `clarice.core.progress.Progress`)."""
        self.listener(f"{self.stage.name}: {label}" if label else self.stage.name, done, total)
