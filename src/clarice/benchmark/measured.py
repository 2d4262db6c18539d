"""Starts a command in a process of its own and says what it used: seconds, processor seconds, peak memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

LAUNCHER = Path(__file__).with_name("measured_launcher.py")
CLARICE = (sys.executable, "-c", "from clarice.cli.app import main; main()")
MESSAGE_LENGTH = 300
# What a command used where nobody counted it: of one that was killed, or that several processes had a part in.
UNKNOWN = 0.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Usage:
    """What a finished command used. `status` is its exit status, negative for the signal that ended it."""

    status: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    message: str = ""
    timed_out: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended with anything but 0."""
        return self.status != 0


def thread_environment(threads: int) -> dict[str, str]:
    """This process's environment with every numerical library held to `threads` threads."""
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "NO_COLOR": "1"}


def run_measured(
    command: Sequence[str | Path], *, folder: Path, log: Path, threads: int = 2, timeout_seconds: float = 7200
) -> Usage:
    """Runs `command` in `folder`, its output into `log`; peak memory is that of its largest process.

    A command that cannot start or outlives `timeout_seconds` is a failed one: `message` says so, or holds the
    last line it printed. When this process is interrupted, the command ends with it.
    """
    with tempfile.TemporaryDirectory() as scratch, log.open("wb") as output:
        result = Path(scratch) / "usage.json"
        arguments = [sys.executable, "-I", "-S", str(LAUNCHER), str(result), *map(str, command)]
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=thread_environment(threads),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            return Usage(
                -signal.SIGKILL, timeout_seconds, UNKNOWN, UNKNOWN, f"ended after {timeout_seconds:.0f} s", True
            )
        except BaseException:
            _end(process)
            raise
        if not result.is_file():
            return Usage(process.returncode or 1, 0.0, UNKNOWN, UNKNOWN, f"no record of the command: {last_line(log)}")
        usage = Usage(**json.loads(result.read_text(encoding="utf-8")))
    return usage if not usage.failed else Usage(**{**usage.__dict__, "message": last_line(log)})


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the launcher and everything it started, in sessions of their own too, as `torchrun` starts its workers."""
    stopped: set[psutil.Process] = set()
    with suppress(psutil.Error):
        whole = psutil.Process(process.pid)
        while new := {whole, *whole.children(recursive=True)} - stopped:
            for each in new:  # what is stopped starts nothing any more
                with suppress(psutil.Error):
                    each.suspend()
            stopped |= new
    for each in stopped:
        with suppress(psutil.Error):
            each.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(stopped)


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line[:MESSAGE_LENGTH] for line in reversed(lines) if line), "no message")
