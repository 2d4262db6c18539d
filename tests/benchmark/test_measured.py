"""Time and memory of a command are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from clarice.benchmark.measured import LAUNCHER, UNKNOWN, Usage, run_measured


def python(code: str, folder: Path, timeout_seconds: float = 60) -> Usage:
    return run_measured(
        [sys.executable, "-S", "-c", code], folder=folder, log=folder / "log", timeout_seconds=timeout_seconds
    )


def test_peak_memory_is_that_of_the_command_alone(tmp_path: Path) -> None:
    held = np.ones(300 * 2**17)  # 300 MB here must not count
    small = python("pass", tmp_path)
    large = python("held = b'x' * (200 * 2**20)", tmp_path)
    assert held.sum() > 0
    assert small.peak_memory_mb < 100
    assert large.peak_memory_mb == pytest.approx(small.peak_memory_mb + 200, abs=20)


def test_memory_of_processes_together_counts_each_and_shared_pages_once(tmp_path: Path) -> None:
    """A child shares what its parent held before; both hold 100 MB of their own besides."""
    code = (
        "import os, time; shared = b'x' * (200 * 2**20); child = os.fork(); own = b'y' * (100 * 2**20); "
        "time.sleep(2.5); child and os.wait()"
    )
    found = run_measured([sys.executable, "-S", "-c", code], folder=tmp_path, log=tmp_path / "log", together=True)
    assert found.peak_together_mb == pytest.approx(400, abs=40)
    assert found.peak_memory_mb == pytest.approx(310, abs=25)
    assert python("pass", tmp_path).peak_together_mb == UNKNOWN


def test_seconds_count_waiting_and_cpu_seconds_do_not(tmp_path: Path) -> None:
    asleep = python("import time; time.sleep(0.5)", tmp_path)
    assert asleep.seconds == pytest.approx(0.6, abs=0.4)
    assert asleep.cpu_seconds < 0.4
    busy = python("import time\nwhile time.process_time() < 0.5: pass", tmp_path)
    assert busy.cpu_seconds > 0.45


def test_threads_are_held(tmp_path: Path) -> None:
    run_measured(
        [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"],
        folder=tmp_path,
        log=tmp_path / "log",
        threads=3,
    )
    assert (tmp_path / "log").read_text().strip() == "3"


def test_failures_say_why(tmp_path: Path) -> None:
    failed = python("import sys; print('so far so good'); sys.exit('no: the disk is full')", tmp_path)
    assert (failed.status, failed.message) == (1, "no: the disk is full")
    absent = run_measured(["no-such-program"], folder=tmp_path, log=tmp_path / "log")
    assert absent.failed
    assert "no-such-program" in absent.message
    killed = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert killed.status == -signal.SIGKILL


def children_gone(pid_file: Path) -> bool:
    deadline = time.monotonic() + 10
    pid = int(pid_file.read_text())
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


SLEEPER = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    late = python(SLEEPER, tmp_path, timeout_seconds=1.5)
    assert late.failed
    assert "ended after" in late.message
    assert children_gone(tmp_path / "pid")


def test_a_command_ends_with_the_benchmark_that_started_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-I', '-S', {str(LAUNCHER)!r}, 'usage.json', sys.executable, '-c', "
        f"{SLEEPER!r}], start_new_session=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as benchmark:
        deadline = time.monotonic() + 20
        while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(benchmark.pid, signal.SIGKILL)
    assert children_gone(tmp_path / "pid")
