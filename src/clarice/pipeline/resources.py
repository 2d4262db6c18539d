"""What the machine has, and what the process has used of it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import torch

from clarice.core.errors import ResourceError
from clarice.geometry.angular import fast_dtype

MEGABYTE = 1024 * 1024
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")
SAMPLING_SECONDS = 0.1


def hardware() -> dict[str, Any]:
    """The machine a run was made on, as `run.json` tells it; `arithmetic` is its processors'."""
    cuda = torch.cuda.is_available()
    return {
        "cpu": _processor_name(),
        "cores": usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "arithmetic": str(fast_dtype()).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_within_reach_mb() -> float:
    """Memory this process could have in all: what it holds, and what is free within a container's limit."""
    free = float(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such limit: the file is missing or says "max"
        free = min(free, float(CGROUP_LIMIT.read_text()) - float(CGROUP_USED.read_text()))
    return (free + psutil.Process().memory_info().rss) / MEGABYTE


def free_disk_mb(folder: Path) -> float:
    """Space left for files in `folder`, which need not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / MEGABYTE


def size_text(megabytes: float) -> str:
    """A size in words: MB up to 1000 of them, GB beyond."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GB"


def duration_text(seconds: float) -> str:
    """A duration in words: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def insist_on_memory(task: str, needed_mb: float) -> None:
    """Raises ResourceError when `task` needs more memory than this process could have."""
    reach_mb = memory_within_reach_mb()
    if needed_mb > reach_mb:
        raise ResourceError(
            f"{task} needs about {size_text(needed_mb)} of memory and {size_text(reach_mb)} can be had: "
            "use a smaller working box (--working-box) or a machine with more memory"
        )


def insist_on_disk(task: str, needed_mb: float, folder: Path) -> None:
    """Raises ResourceError when `task` needs more than is free on the disk of `folder`."""
    free_mb = free_disk_mb(folder)
    if needed_mb > free_mb:
        raise ResourceError(
            f"{task} needs about {size_text(needed_mb)} and {size_text(free_mb)} is free on the disk of {folder}: "
            "make room or choose another folder"
        )


def _lifetime_peak_mb() -> float:
    kilobytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes_or_bytes / (MEGABYTE if sys.platform == "darwin" else 1024)


class PeakMemory:
    """Measures the process's peak memory between entering and leaving; read `megabytes` afterwards.

    The system only keeps the peak of the process's whole life. Where that rises in between, it is the answer,
    exactly; where it does not, samples of the resident size are.
    """

    def __init__(self) -> None:
        self.megabytes = 0.0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="peak memory", daemon=True)

    def __enter__(self) -> Self:
        self._peak_before = _lifetime_peak_mb()
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._sampler.join()
        peak = _lifetime_peak_mb()
        if peak > self._peak_before:
            self.megabytes = peak

    def _sample(self) -> None:
        process = psutil.Process()
        while True:
            self.megabytes = max(self.megabytes, process.memory_info().rss / MEGABYTE)
            if self._stop.wait(SAMPLING_SECONDS):
                return
