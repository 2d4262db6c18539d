"""`run.json`: what was run, on what, with which result, in a form that a later run and a reader can trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from clarice import __version__
from clarice.core.errors import OutputError
from clarice.pipeline.durable import write_json

RECORD_NAME = "run.json"

# An outdated stage is whole, but of an earlier call with other settings or particles.
Status = Literal["running", "done", "skipped", "outdated", "failed"]


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class StageRecord:
    """One stage's entry. A skipped stage keeps the seconds and peak memory of the run that did the work."""

    name: str
    status: Status
    started: str
    inputs_hash: str
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    outputs: list[str] = field(default_factory=list)
    output_hashes: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Whether its outputs are whole, as they were when `inputs_hash` was recorded."""
        return self.status in ("done", "skipped", "outdated")


@dataclass
class RunRecord:
    """The content of `run.json`; `save` replaces the file in one step."""

    command: str
    arguments: dict[str, Any]
    seed: int | None
    hardware: dict[str, Any]
    version: str = __version__
    created: str = field(default_factory=timestamp)
    finished: str | None = None
    input: dict[str, Any] = field(default_factory=dict)
    stages: list[StageRecord] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    peak_memory_mb: float = 0.0

    def stage(self, name: str) -> StageRecord | None:
        """The entry of stage `name`, if it ever started."""
        return next((entry for entry in self.stages if entry.name == name), None)

    def put(self, entry: StageRecord) -> None:
        """Adds `entry`, in the place of an older one of that name."""
        for index, older in enumerate(self.stages):
            if older.name == entry.name:
                self.stages[index] = entry
                return
        self.stages.append(entry)

    def drop_warnings(self, stage: str) -> None:
        """Forgets what earlier runs of `stage` warned of."""
        self.warnings = [warning for warning in self.warnings if warning["stage"] != stage]

    def save(self, folder: Path) -> None:
        """Writes `folder/run.json`."""
        self.peak_memory_mb = max((entry.peak_memory_mb for entry in self.stages), default=0.0)
        write_json(folder / RECORD_NAME, asdict(self))


def read_record(folder: Path) -> RunRecord | None:
    """The record in `folder`, None where there is none. Raises OutputError when it is not one of ours."""
    path = folder / RECORD_NAME
    if not path.exists():
        return None
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stages = [StageRecord(**entry) for entry in content["stages"]]
        return RunRecord(**{**content, "stages": stages})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(
            f"{path} is not the record of a run by this version: choose another folder, or empty this one"
        ) from error
