"""Why a file is refused, in kinds that a caller can tell apart; each is an InputError."""

from __future__ import annotations

from clarice.core.errors import InputError


class NotParticlesError(InputError):
    """The file is whole, but it is something other than a particle stack."""


class ImagesMissingError(InputError):
    """The table lists particles, but an image file it names was not found."""


class OptionNeededError(InputError):
    """The stack is readable once an option settles what its files leave open."""
