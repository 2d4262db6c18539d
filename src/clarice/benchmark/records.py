"""Results of a protocol: rows with their circumstances, as JSON and as a table, written after every row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clarice import __version__
from clarice.core.errors import InputError
from clarice.io.atomic import writing
from clarice.pipeline.resources import hardware
from clarice.pipeline.run_record import timestamp

Row = dict[str, Any]
# 95 % intervals.
_TAIL_PERCENT = 2.5
_DRAWS = 2000


@dataclass(frozen=True)
class Column:
    """A column of the printed table: heading, and how a row's value is shown."""

    heading: str
    key: str
    form: str = "{}"

    def cell(self, row: Mapping[str, Any]) -> str:
        """The value as text, or a dash where the row has none."""
        value = row.get(self.key)
        return "–" if value is None else self.form.format(value)


@dataclass
class Results:
    """Rows of one protocol, and everything needed to repeat them. `keys` name the columns that tell rows apart.

    `places` are folders that published text must not name.
    """

    protocol: str
    protocol_version: int
    settings: dict[str, Any]
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    places: tuple[str, ...] = ()

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """What tells a row from the others."""
        return tuple(row.get(name) for name in self.keys)

    def finished(self, **key: Any) -> bool:
        """Whether a row with that key is there and came to an end."""
        wanted = self.key_of(key)
        return any(self.key_of(row) == wanted and not row.get("failed") for row in self.rows)

    def put(self, row: Row) -> None:
        """Adds a row, in the place of an older one with its key."""
        made = {
            **{name: self._shortened(value) for name, value in row.items()},
            "made": timestamp(),
            "version": __version__,
        }
        for index, older in enumerate(self.rows):
            if self.key_of(older) == self.key_of(row):
                self.rows[index] = made
                return
        self.rows.append(made)

    def _shortened(self, value: Any) -> Any:
        """Text without the folders of this machine."""
        if isinstance(value, str):
            for place in self.places:
                value = value.replace(f"{place}/", "")
        return value

    def record(self) -> dict[str, Any]:
        """Everything, as it stands in the JSON file."""
        return {
            "protocol": self.protocol,
            "protocol_version": self.protocol_version,
            "clarice": __version__,
            "hardware": hardware(),
            "trained_on": "nothing: no method in this protocol is trained",
            "settings": self.settings,
            "notes": self.notes,
            "summary": self.summary,
            "rows": self.rows,
        }

    def save(self, folder: Path) -> None:
        """Writes `folder/PROTOCOL.json` and `folder/PROTOCOL.md`, each in one step."""
        with writing(folder / f"{self.protocol}.json") as temporary:
            text = json.dumps(self.record(), indent=2, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        with writing(folder / f"{self.protocol}.md") as temporary:
            temporary.write_text(self.markdown(), encoding="utf-8")

    def take_up(self, folder: Path) -> None:
        """Takes over the rows of an earlier call with the same protocol, version and settings.

        Raises InputError when the earlier call differs, as its rows would not belong in one table.
        """
        path = folder / f"{self.protocol}.json"
        if not path.is_file():
            return
        try:
            older = json.loads(path.read_text(encoding="utf-8"))
            same = all(
                older[name] == value
                for name, value in (
                    ("protocol_version", self.protocol_version),
                    ("clarice", __version__),
                    ("settings", json.loads(json.dumps(self.settings))),
                )
            )
            rows = list(older["rows"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not a record of this protocol: move it away or drop --resume") from error
        if not same:
            raise InputError(
                f"{path} was made with other settings or another version: pass those, drop --resume, "
                "or write to another folder with --out"
            )
        self.rows = rows

    def markdown(self) -> str:
        """The table and its circumstances, for people."""
        machine = hardware()
        lines = [
            f"# {self.protocol}",
            "",
            f"Clarice {__version__}, protocol version {self.protocol_version}; {machine['cpu']}, "
            f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['device']}, torch {machine['torch']}.",
            "Nothing in this protocol is trained.",
            "",
            "Settings: " + ", ".join(f"{name} {value}" for name, value in self.settings.items()) + ".",
            "",
            *self._table(),
            "",
            *(f"- {name}: {value}" for name, value in self.summary.items()),
            *(f"- {note}" for note in self.notes),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def _table(self) -> list[str]:
        head = "| " + " | ".join(column.heading for column in self.columns) + " |"
        rule = "|" + "---|" * len(self.columns)
        cells = [[column.cell(row).replace("|", "/") for column in self.columns] for row in self.rows]
        return [head, rule, *("| " + " | ".join(row) + " |" for row in cells)]


def bootstrap_interval(
    by_structure: Mapping[str, Sequence[float]], statistic: Callable[[np.ndarray[Any, Any]], float], seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of `statistic` of all values, structures drawn with replacement; None below 3 of them."""
    groups = [np.asarray(values, dtype=np.float64) for values in by_structure.values() if len(values)]
    if len(groups) < 3:
        return None
    draws = np.random.default_rng(seed).integers(len(groups), size=(_DRAWS, len(groups)))
    values = [statistic(np.concatenate([groups[index] for index in draw])) for draw in draws]
    low, high = np.percentile(values, [_TAIL_PERCENT, 100 - _TAIL_PERCENT])
    return float(low), float(high)


def grouped(rows: Sequence[Row], key: str) -> dict[str, list[float]]:
    """Numbers `row[key]` by structure; rows without one are left out."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.get(key) is not None:
            groups.setdefault(str(row["entry"]), []).append(float(row[key]))
    return groups


def with_interval(rows: Sequence[Row], key: str, form: str, unit: str = "") -> str | None:
    """Mean of `row[key]` with its interval, as text; None when no row has it."""
    groups = grouped(rows, key)
    values = np.concatenate([np.asarray(group) for group in groups.values()]) if groups else np.empty(0)
    if len(values) == 0:
        return None
    interval = bootstrap_interval(groups, lambda drawn: float(drawn.mean()))
    text = form.format(float(values.mean())) + unit
    if interval is None:
        return f"{text} (too few structures for an interval)"
    return f"{text} (95 %: {form.format(interval[0])} to {form.format(interval[1])}, over {len(groups)} structures)"


def load_average() -> float | None:
    """Processes that wanted to run in the last minute: other work on the machine makes times longer."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
