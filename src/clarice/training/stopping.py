"""When training stops before its end: a budget of minutes, or a signal; the same step on every process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SIGUSR1 is what batch systems can be asked to send some time before they kill.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# The end may take this many times as long as such things last took.
_MARGIN = 1.5


class StopWatch:
    """Knows whether a signal came and whether the minutes are used up, with time for the last words to spare."""

    def __init__(self, minutes: float | None = None, started: float | None = None) -> None:
        self._started = time.monotonic() if started is None else started
        self.seconds = None if minutes is None else 60 * minutes
        self.signal = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes signals instead of dying of them; a second interrupt is obeyed at once. Main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def out_of_time(self, ending_seconds: float, step_seconds: float) -> bool:
        """Whether another step and the end (a checkpoint, and a validation that falls due) might not fit."""
        if self.seconds is None:
            return False
        return self.elapsed() + _MARGIN * ending_seconds + step_seconds > self.seconds
