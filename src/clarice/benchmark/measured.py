"""Starts a command in a process of its own and says what it used: seconds, processor seconds, peak memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from clarice.pipeline.resources import MEGABYTE

LAUNCHER = Path(__file__).with_name("measured_launcher.py")
CLARICE = (sys.executable, "-c", "from clarice.cli.app import main; main()")
MESSAGE_LENGTH = 300
# What a command used where nobody counted it: of one that was killed, or that several processes had a part in.
UNKNOWN = 0.0
# How often the memory of several processes together is looked up.
LOOK_UP_SECONDS = 0.5
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Usage:
    """What a finished command used. `status` is its exit status, negative for the signal that ended it.

    `peak_memory_mb` is that of its largest process, `peak_together_mb` that of all at one time, where it was watched.
    """

    status: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    message: str = ""
    timed_out: bool = False
    peak_together_mb: float = UNKNOWN

    @property
    def failed(self) -> bool:
        """Whether it ended with anything but 0."""
        return self.status != 0


def thread_environment(threads: int) -> dict[str, str]:
    """This process's environment with every numerical library held to `threads` threads."""
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "NO_COLOR": "1"}


def run_measured(
    command: Sequence[str | Path],
    *,
    folder: Path,
    log: Path,
    threads: int = 2,
    timeout_seconds: float = 7200,
    together: bool = False,
) -> Usage:
    """Runs `command` in `folder`, its output into `log`; `together` also watches the memory of all its processes.

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
        memory = MemoryTogether(process.pid) if together else None
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            late = f"ended after {timeout_seconds:.0f} s"
            return Usage(-signal.SIGKILL, timeout_seconds, UNKNOWN, UNKNOWN, late, True, _most(memory))
        except BaseException:
            _end(process)
            raise
        finally:
            peak_together = _most(memory)
        if not result.is_file():
            return Usage(process.returncode or 1, 0.0, UNKNOWN, UNKNOWN, f"no record of the command: {last_line(log)}")
        usage = Usage(**json.loads(result.read_text(encoding="utf-8")), peak_together_mb=peak_together)
    return usage if not usage.failed else replace(usage, message=last_line(log))


class MemoryTogether:
    """Watches, from its making to `stop`, how much memory a process and all that it starts hold at one time.

    Pages that several of them share are counted once, by parts (proportional set size, of Linux).
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._peak_bytes, self._done = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The most that was seen, MB."""
        self._done.set()
        self._thread.join()
        return self._peak_bytes / MEGABYTE

    def _watch(self) -> None:
        while not self._done.wait(LOOK_UP_SECONDS):
            self._peak_bytes = max(self._peak_bytes, self._held())

    def _held(self) -> int:
        held = 0
        with suppress(psutil.Error):
            whole = psutil.Process(self._pid)
            for each in (whole, *whole.children(recursive=True)):
                with suppress(psutil.Error):  # it may have ended
                    memory = each.memory_full_info()
                    held += getattr(memory, "pss", memory.uss)
        return held


def _most(memory: MemoryTogether | None) -> float:
    return UNKNOWN if memory is None else memory.stop()


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
