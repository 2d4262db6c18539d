"""Why a file is refused, in kinds that a caller can tell apart; each is an InputError."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError, UsageError


class NotParticlesError(InputError):
    """The file is whole, but it is something other than a particle stack."""


class ImagesMissingError(InputError):
    """The table lists particles, but an image file it names was not found."""


class OptionNeededError(InputError, UsageError):
    """The stack is readable once an option settles what its files leave open: the command line's to mend."""

    exit_code = UsageError.exit_code


def no_such_group(path: Path, group: int, groups: NDArray[np.integer]) -> str:
    """Why `--optics-group` names a group that no particle belongs to, and which there are."""
    known = np.unique(groups)
    listed = ", ".join(map(str, known[:8])) + (", …" if len(known) > 8 else "")
    return f"--optics-group {group}: no particle of {path} belongs to it, only to {listed}"


def empty_file(path: Path) -> InputError:
    """The refusal of a file without a single byte."""
    return InputError(f"{path} is empty (0 bytes): whatever wrote it did not finish, so write it again")
