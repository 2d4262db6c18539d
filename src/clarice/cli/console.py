"""What every command shows while it works: a progress bar with its ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from clarice.core.progress import Progress

console = Console(highlight=False, emoji=False, soft_wrap=True)


def told(message: str) -> None:
    """Prints a message as it is."""
    console.print(message, markup=False)


@contextmanager
def showing_progress() -> Iterator[Progress]:
    """A `Progress` that draws one bar a label on a terminal, or a line with ETA at most every ten seconds."""
    if console.is_terminal:
        with _bars() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done, total=total)

        yield progress


def _lines() -> Progress:
    started: dict[str, float] = {}
    reached: dict[str, int] = {}
    last_shown = 0.0

    def progress(label: str, done: int, total: int) -> None:
        nonlocal last_shown
        now = time.monotonic()
        if done < reached.get(label, done + 1):  # a label's first call, or the same work begun anew
            started[label] = now
        reached[label] = done
        if done < total and now - last_shown < 10:
            return
        last_shown = now
        elapsed = now - started[label]
        remaining = f", ETA {elapsed / done * (total - done):.0f} s" if done else ""
        told(f"{label}: {done}/{total}, {elapsed:.0f} s{remaining}")

    return progress
