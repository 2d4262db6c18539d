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
from clarice.benchmark.code_version import CodeVersion, code_version
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


# Shown where rows were made by more than one version of the code.
SOURCE = Column("source", "source_sha256", "{:.8}")


@dataclass
class Results:
    """Rows of one protocol, and everything needed to repeat them. `keys` name the columns that tell rows apart.

    `places` are folders that published text must not name; `code` is the code that makes the rows put in next.
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
    code: CodeVersion = field(default_factory=code_version)
    trained_on: str = "nothing: no method in this protocol is trained"

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """What tells a row from the others."""
        return tuple(row.get(name) for name in self.keys)

    def finished(self, **key: Any) -> bool:
        """Whether a row with that key is there, came to an end and was made by `code`.

        One that time ran out for, its time a lower bound, did not come to an end.
        """
        wanted, source = self.key_of(key), self.code.source_sha256
        ended = [row for row in self.rows if not row.get("failed") and not row.get("lower_bound")]
        return any(self.key_of(row) == wanted and row.get("source_sha256") == source for row in ended)

    def row(self, **key: Any) -> Row:
        """The row with that key; raises KeyError when there is none."""
        wanted = self.key_of(key)
        for row in self.rows:
            if self.key_of(row) == wanted:
                return row
        raise KeyError(wanted)

    def put(self, row: Row) -> Row:
        """Adds a row, in the place of an older one with its key, and returns it as it is kept."""
        made = {
            **{name: self._shortened(value) for name, value in row.items()},
            "made": timestamp(),
            **vars(self.code),
        }
        for index, older in enumerate(self.rows):
            if self.key_of(older) == self.key_of(row):
                self.rows[index] = made
                return made
        self.rows.append(made)
        return made

    @property
    def codes(self) -> dict[str | None, CodeVersion]:
        """The code the rows were made by, by its source; more than one where they do not belong together."""
        versions = (CodeVersion.of_row(row) for row in self.rows)
        return {version.source_sha256: version for version in versions}

    @property
    def remarks(self) -> list[str]:
        """The notes, after a warning where the rows were not made by one version of the code."""
        if len(self.codes) < 2:
            return self.notes
        made = [CodeVersion.of_row(row).source_sha256 for row in self.rows]
        counts = [f"{version.name} ({made.count(source)})" for source, version in self.codes.items()]
        return [f"rows come from {len(counts)} versions of the code: {'; '.join(counts)}", *self.notes]

    @property
    def table_columns(self) -> tuple[Column, ...]:
        """The columns, and one that tells the rows' code where it is not the same."""
        return self.columns if len(self.codes) < 2 else (*self.columns, SOURCE)

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
            "code": [vars(version) for version in self.codes.values()],
            "hardware": hardware(),
            "trained_on": self.trained_on,
            "settings": self.settings,
            "notes": self.remarks,
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
        code = "; ".join(version.name for version in self.codes.values()) or self.code.name
        lines = [
            f"# {self.protocol}",
            "",
            f"Clarice {code}; protocol version {self.protocol_version}; {machine['cpu']}, "
            f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['device']}, "
            f"{machine['arithmetic']}, torch {machine['torch']}.",
            f"Trained on: {self.trained_on}.",
            "",
            "Settings: " + ", ".join(f"{name} {value}" for name, value in self.settings.items()) + ".",
            "",
            *self._table(),
            "",
            *(f"- {name}: {value}" for name, value in self.summary.items()),
            *(f"- {note}" for note in self.remarks),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def _table(self) -> list[str]:
        columns = self.table_columns
        head = "| " + " | ".join(column.heading for column in columns) + " |"
        rule = "|" + "---|" * len(columns)
        cells = [[column.cell(row).replace("|", "/") for column in columns] for row in self.rows]
        return [head, rule, *("| " + " | ".join(row) + " |" for row in cells)]


def rounded(value: Any) -> float:
    """Five significant digits."""
    return float(f"{float(value):.5g}")


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
