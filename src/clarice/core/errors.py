"""Errors a user can mend. Each message is one sentence that names the file, the row or column, and the remedy."""

from __future__ import annotations


class ClariceError(Exception):
    """Base of every error shown to the user without a traceback; `exit_code` is the process's exit status."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # File names need not be UTF-8; what cannot be written is spelt out, or the message itself would fail.
        super().__init__(message.encode("utf-8", "backslashreplace").decode("utf-8"))


class UsageError(ClariceError):
    """An option or argument is unknown, contradictory or missing."""

    exit_code = 2


class InputError(ClariceError):
    """An input file is missing, unreadable or unfit for the work asked for."""

    exit_code = 3


class OutputError(ClariceError):
    """An output cannot be written."""

    exit_code = 4


class ResourceError(ClariceError):
    """Memory, disk or a needed program or network is not available."""

    exit_code = 5
