"""One run folder, one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from clarice.core.errors import OutputError
from clarice.io.atomic import why_refused

LOCK_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`; a lock whose process has died is taken over.

    The kernel drops the lock with the process that held it. Where a file system has no such locks (some
    parallel ones), the process and host named in the file decide. Raises OutputError when another run holds
    the folder.
    """
    path = folder / LOCK_NAME
    descriptor = _acquire(path)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = _open(path)
        try:
            _claim(descriptor, path)
            if _is_open_at(descriptor, path):
                break
        except BaseException:
            os.close(descriptor)
            raise
        # The former holder removed the file between our opening and locking it: lock the new one.
        os.close(descriptor)
    content = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(content).encode(), 0)
    os.fsync(descriptor)
    return descriptor


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(f"cannot write into the run folder {path.parent}: {why_refused(error)}") from error


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _claim(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _busy(path, _holder(descriptor)) from error
    except OSError as error:
        holder = _holder(descriptor)
        if holder is not None and _lives(holder):
            raise _busy(path, holder) from error


def _holder(descriptor: int) -> dict[str, object] | None:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _lives(holder: dict[str, object]) -> bool:
    """Whether the holder may still run; on another host it is taken to."""
    if holder.get("host") != socket.gethostname():
        return True
    try:
        return psutil.Process(int(str(holder.get("pid")))).create_time() == holder.get("started")
    except (psutil.NoSuchProcess, ValueError):
        return False


def _busy(path: Path, holder: dict[str, object] | None) -> OutputError:
    who = f"process {holder.get('pid')} on {holder.get('host')}" if holder else "another process"
    return OutputError(
        f"{path.parent} is in use by {who}: wait for that run, choose another folder, "
        f"or remove {path} if that process is gone"
    )
