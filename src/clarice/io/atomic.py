"""Writes that are whole or absent: a temporary file beside the target, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clarice.core.errors import OutputError

# What the temporary files of `writing` are named.
TEMPORARY_NAME = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part(\..*)?")

# What the disk, not the program, may refuse while a file is written.
_WRITE_FAILURES = {
    errno.ENOSPC: "the disk is full; make room or choose another place",
    errno.EDQUOT: "the disk quota is used up; make room or choose another place",
    errno.EFBIG: "the file grew beyond what the file system allows; choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EIO: "the disk reported an error; choose another place",
    errno.EACCES: "the folder is not writable; choose another place",
    errno.EPERM: "the folder is not writable; choose another place",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another name",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOENT: "its file system takes no new files there, or the folder was removed; choose another place",
    errno.EISDIR: "a folder has that name; choose another name",
}


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path in the target's folder, with its suffix; renames it to `path` at the end.

    The folder is made if it is missing. When the body raises, the temporary file is removed and `path` is
    left as it was. Raises OutputError, in one sentence, when the folder or disk refuses.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem[:80]}.{secrets.token_hex(6)}.part{target.suffix}")
    _reserve(target, temporary)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except OSError as error:
        _discard(temporary)
        if not _concerns(error, temporary):
            raise
        raise _refusal(target, error) from error
    except BaseException:
        _discard(temporary)
        raise


def _reserve(target: Path, temporary: Path) -> None:
    if target.is_dir():
        raise OutputError(f"cannot write {target}: {_WRITE_FAILURES[errno.EISDIR]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()
    except OSError as error:
        raise _refusal(target, error) from error


def _flush(temporary: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(temporary: Path) -> None:
    temporary.unlink(missing_ok=True)


def _concerns(error: OSError, temporary: Path) -> bool:
    """Whether `error` is about the file being written, not about something the body read."""
    if error.filename is not None:
        return str(error.filename) == str(temporary)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def why_refused(error: OSError) -> str:
    """Why the system refused to write, and what to do about it."""
    return _WRITE_FAILURES.get(error.errno or 0, error.strerror or str(error))


def _refusal(target: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {target}: {why_refused(error)}")
