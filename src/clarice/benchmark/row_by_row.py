"""How every protocol is run: task after task, saved after each; what an earlier call finished is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clarice.benchmark.code_version import CodeVersion, code_version
from clarice.benchmark.records import Results, Row, load_average
from clarice.core.errors import ClariceError, ResourceError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Rows to measure together. `keys` tell them from all others; `measure` gives one row for each key, in order."""

    keys: tuple[Row, ...]
    measure: Callable[[], Sequence[Row]]


def measure_rows(
    results: Results,
    tasks: Iterable[Task],
    out: Path,
    *,
    summarise: Callable[[Results], None],
    shown: Callable[[Row], None],
    failure: Row | None = None,
    show_kept: bool = False,
) -> Results:
    """Fills `results`, writes them to `out` after each task and hands its rows to `shown`.

    Rows that `results` hold as finished by the same code are kept as they are, and shown if `show_kept`. A task that
    fails becomes rows that say why, with the columns of `failure`, and the next one is run.

    Raises ResourceError when the package's files change meanwhile: some of the code was loaded at the start and some is
    started anew for every row, so a row would not be any one version's.
    """
    summarise(results)
    results.code = code_version()
    for task in tasks:
        _insist_on(results.code)
        waiting = [key for key in task.keys if not results.finished(**key)]
        made = [results.put(row) for row in _attempt(task, waiting, failure or {})] if waiting else []
        _insist_on(results.code)
        summarise(results)
        results.save(out)
        for row in [results.row(**key) for key in task.keys] if show_kept else made:
            shown(row)
    return results


def _insist_on(code: CodeVersion) -> None:
    if code_version().source_sha256 != code.source_sha256:
        raise ResourceError(
            "the package's files changed during the benchmark: finished rows are kept; measure the rest in a checkout "
            "that stays as it is"
        )


def _attempt(task: Task, waiting: Sequence[Row], failure: Row) -> list[Row]:
    """The task's rows, or one for each of the keys `waiting` that says why there is none."""
    load: Row = {"load_before": load_average()}
    try:
        return [{**key, **load, **row} for key, row in zip(task.keys, task.measure(), strict=True)]
    except ClariceError as error:
        note = str(error)
    except Exception as error:  # hours of other rows must not be lost to one that is wrong
        logger.exception("a row failed")
        note = f"{type(error).__name__}: {error}"
    return [{**key, **load, **failure, "failed": True, "note": note} for key in waiting]
