"""Clarice: joint denoising and ab initio reconstruction for single-particle cryo-EM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["ClariceError", "InputError", "OutputError", "ResourceError", "UsageError", "open", "run"]

if TYPE_CHECKING:
    from clarice.api import run
    from clarice.core.errors import ClariceError, InputError, OutputError, ResourceError, UsageError
    from clarice.io.stack import open_particles as open

_ERRORS = "clarice.core.errors"
_PUBLIC = {
    "ClariceError": (_ERRORS, "ClariceError"),
    "InputError": (_ERRORS, "InputError"),
    "OutputError": (_ERRORS, "OutputError"),
    "ResourceError": (_ERRORS, "ResourceError"),
    "UsageError": (_ERRORS, "UsageError"),
    "open": ("clarice.io.stack", "open_particles"),
    "run": ("clarice.api", "run"),
}


def __dir__() -> list[str]:
    """The public names as well, though they are not imported yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Imports the public names on first use, so that `import clarice` and the command line start at once."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'clarice' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)
