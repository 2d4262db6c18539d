"""Budgets and signals."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from clarice.training.stopping import StopWatch


def test_without_a_budget_there_is_always_time() -> None:
    assert not StopWatch().out_of_time(1e9, 1e9)


@pytest.mark.parametrize(("checkpoint", "step", "late"), [(0, 0, False), (10, 5, False), (10, 16, True), (25, 0, True)])
def test_a_checkpoint_and_a_step_must_still_fit(checkpoint: float, step: float, late: bool) -> None:
    watch = StopWatch(1.0, time.monotonic() - 30)
    assert watch.out_of_time(checkpoint, step) is late


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_noted_and_handlers_put_back(number: signal.Signals) -> None:
    watch = StopWatch()
    before = signal.getsignal(number)
    with watch.listening():
        assert watch.signal == 0
        signal.raise_signal(number)
        assert watch.signal == number
    assert signal.getsignal(number) is before


def test_other_threads_cannot_listen_and_work_all_the_same() -> None:
    reached: list[bool] = []

    def work() -> None:
        with StopWatch().listening():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [True]
