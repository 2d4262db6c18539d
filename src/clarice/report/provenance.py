"""What was run, on what, with which seed and hashes, and how long each stage took."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from clarice.core.errors import UsageError
from clarice.geometry.so3 import symmetry_rotations
from clarice.report.folder import number, records
from clarice.report.wording import count, date, duration, memory, plain, quantity

STATUS_WORDS = {
    "done": "done",
    "running": "unfinished",
    "skipped": "up to date",
    "outdated": "out of date",
    "failed": "failed",
}
# The page is made by the last stage, which cannot have ended by then.
OWN_STAGE = "report"


@dataclass(frozen=True)
class StageRow:
    """One stage with its time and memory as text, and its share (0..1) of the longest and the largest."""

    name: str
    status: str
    time: str
    time_share: float
    memory: str
    memory_share: float
    inputs_hash: str
    outputs: str


@dataclass(frozen=True)
class Stages:
    """All stages and their totals as text; `failed` holds (name, error).

    `outdated` ones are of an earlier call, with other settings or particles.
    """

    rows: tuple[StageRow, ...]
    total_time: str
    peak_memory: str
    unfinished: tuple[str, ...]
    outdated: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


def stages(record: dict[str, Any]) -> Stages | None:
    """Stages of run.json; None when it lists none."""
    listed = [entry for entry in records(record.get("stages")) if entry.get("name") != OWN_STAGE]
    if not listed:
        return None
    seconds = [number(stage.get("seconds")) for stage in listed]
    peaks = [number(stage.get("peak_memory_mb")) for stage in listed]
    longest = max((s for s in seconds if s), default=1.0)
    largest = max((p for p in peaks if p), default=1.0)
    rows = tuple(
        StageRow(
            str(stage.get("name", "–")),
            STATUS_WORDS.get(str(stage.get("status")), str(stage.get("status", "–"))),
            duration(spent),
            (spent or 0) / longest,
            memory(peak),
            (peak or 0) / largest,
            str(stage.get("inputs_hash") or "–"),
            plain(stage.get("outputs")),
        )
        for stage, spent, peak in zip(listed, seconds, peaks, strict=True)
    )
    peak_memory = number(record.get("peak_memory_mb")) or max((p for p in peaks if p), default=None)
    unfinished, outdated = (
        tuple(row.name for row in rows if row.status == STATUS_WORDS[status]) for status in ("running", "outdated")
    )
    failed = tuple(
        (str(stage.get("name")), plain(stage.get("error"))) for stage in listed if stage.get("status") == "failed"
    )
    return Stages(rows, duration(sum(s or 0 for s in seconds)), memory(peak_memory), unfinished, outdated, failed)


def command_line(record: dict[str, Any]) -> str:
    """The command as it was given; a list is quoted for a shell."""
    command = record.get("command")
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return plain(command)


def facts(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """What identifies the run, as (name, value)."""
    source, hardware = _object(record.get("input")), _object(record.get("hardware"))
    cores = hardware.get("cores")
    machine = (
        f"{plain(hardware.get('cpu'))}, {plain(cores)} {'core' if cores == 1 else 'cores'}, "
        f"{quantity(number(hardware.get('memory_gb')), 'GB')}, {plain(hardware.get('device'))}"
    )
    return (
        ("Clarice version", plain(record.get("version"))),
        ("Seed", plain(record.get("seed"))),
        ("Started", date(record.get("created"))),
        ("Input", plain(source.get("path"))),
        ("Input SHA-256", plain(source.get("sha256"))),
        ("Particles", count(number(source.get("particles")))),
        ("Machine", machine if hardware else plain(None)),
        ("PyTorch", plain(hardware.get("torch"))),
    )


def symmetry_of(record: dict[str, Any]) -> str:
    """The point group a run was told, C1 where its record names none that there is."""
    told = str(_object(record.get("arguments")).get("symmetry") or "C1")
    try:
        symmetry_rotations(told)
    except UsageError:
        return "C1"
    return told


def arguments(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Every argument of the run as (name, value)."""
    return tuple((str(name), plain(value)) for name, value in _object(record.get("arguments")).items())


def facts_of(content: dict[str, Any], limit: int = 40) -> tuple[tuple[str, str], ...]:
    """The short entries of a JSON object as (name, value), long lists left out."""
    short = [(k.replace("_", " "), plain(v)) for k, v in content.items() if not (isinstance(v, list) and len(v) > 12)]
    return tuple(short[:limit])


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
