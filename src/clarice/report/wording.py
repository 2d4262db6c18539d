"""Numbers as people read them: always with a unit, a dash where nothing is known."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

MISSING = "–"
THIN_SPACE = "\u202f"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """`value` with up to `digits` significant digits and its unit, never in exponent form below a million."""
    if value is None or not math.isfinite(value):
        return MISSING
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{min(decimals, 6)}f}" if abs(value) < 1e6 else f"{value:.{digits - 1}e}"
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return f"{text}{THIN_SPACE}{unit}" if unit else text


def angstrom(value: float | None) -> str:
    """A length in Å with two decimals below ten and one above."""
    if value is None or not _known(value):
        return MISSING
    return f"{value:.{2 if value < 10 else 1}f}{THIN_SPACE}Å"


def reached(value: float | None, nyquist: float | None, finest: float | None = None) -> str:
    """A resolution in Å; where the curve never fell below its threshold, that it is Nyquist or better, or better than
    `finest`, the resolution of the last shell measured.
    """
    if value is None or nyquist is None:
        return angstrom(value)
    if value <= nyquist * (1 + 1e-6):
        return f"Nyquist ({angstrom(nyquist)}) or beyond"
    if finest is not None and value <= finest * (1 + 1e-6):
        return f"{angstrom(finest)} or beyond, the last shell measured"
    return angstrom(value)


def count(value: float | None) -> str:
    """A whole number with thousands set apart."""
    return f"{round(value):,}" if value is not None and _known(value) else MISSING


def hundredths(value: float | None) -> str:
    """A number with two decimals and thousands set apart."""
    return f"{value:,.2f}".replace("-", "−") if value is not None and _known(value) else MISSING


def percent(part: float, whole: float) -> str:
    """`part` of `whole`."""
    return f"{100 * part / whole:.1f}{THIN_SPACE}%" if whole else MISSING


def duration(seconds: float | None) -> str:
    """Seconds as `0.42 s`, `12.3 s`, `4 min 09 s` or `2 h 05 min`."""
    if seconds is None or not _known(seconds):
        return MISSING
    if seconds < 99.95:
        return f"{seconds:.{2 if seconds < 1 else 1}f}{THIN_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN_SPACE}min {rest:02d}{THIN_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN_SPACE}h {minutes:02d}{THIN_SPACE}min"


def memory(megabytes: float | None) -> str:
    """Memory in MB, in GB from a thousand on."""
    if megabytes is None or not _known(megabytes):
        return MISSING
    if megabytes >= 1000:
        return f"{megabytes / 1000:.2f}{THIN_SPACE}GB"
    return f"{megabytes:.0f}{THIN_SPACE}MB"


def date(text: Any) -> str:
    """An ISO 8601 moment as `2 March 2026, 14:05 UTC`; other text as it is."""
    if not isinstance(text, str) or not text:
        return MISSING
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {moment.tzname()}" if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def plain(value: Any) -> str:
    """Any JSON value on one line."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key} {plain(item)}" for key, item in value.items())
    return str(value)
