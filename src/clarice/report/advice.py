"""What the run advises: SNR by defocus, resolution by number of particles, and sentences on what to collect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clarice.pipeline.advice_words import defocus_range
from clarice.report.charts import Axis, Chart, Series, line_chart
from clarice.report.folder import RunFiles, number, records
from clarice.report.wording import MISSING, angstrom, count, percent


@dataclass(frozen=True)
class DefocusRow:
    """One range of defocus, as text."""

    defocus_range: str
    particles: str
    snr: str
    share: str
    contrast: str


@dataclass(frozen=True)
class Advice:
    """Sentences on what to collect, the ranges of defocus, the predicted resolution, and the rest as facts."""

    collect: tuple[str, ...]
    groups: tuple[DefocusRow, ...]
    finest: str
    chart: Chart | None
    facts: tuple[tuple[str, str], ...]


def advice(run: RunFiles) -> Advice | None:
    """What `advice.json` says; None before the export, and in runs of versions that gave none."""
    content = run.json("advice.json")
    if not content:
        return None
    snr = _part(content, "snr")
    named = (("Classes", "classes"), ("Neighbours", "neighbours"), ("Signal", "snr"), ("Resolution", "resolution"))
    said = tuple((label, str(_part(content, name).get("sentence", ""))) for label, name in named)
    return Advice(
        tuple(str(item.get("sentence", "")) for item in records(content.get("collect"))),
        _groups(records(snr.get("groups")), number(_part(snr, "whole").get("scale"))),
        angstrom(number(snr.get("finest_angstrom"))),
        _chart(records(_part(content, "resolution").get("predictions"))),
        tuple((label, sentence) for label, sentence in said if sentence),
    )


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _groups(groups: Sequence[dict[str, Any]], whole_scale: float | None) -> tuple[DefocusRow, ...]:
    power = [
        (number(group.get("particles")) or 0.0) * max(number(_part(group, "snr").get("value")) or 0.0, 0.0)
        for group in groups
    ]
    return tuple(
        DefocusRow(
            _range(number(group.get("least_angstrom")), number(group.get("most_angstrom"))),
            count(number(group.get("particles"))),
            _with_error(_part(group, "snr"), "value", "error"),
            percent(share, sum(power)),
            _with_error(_part(group, "snr"), "scale", "scale_error", whole_scale),
        )
        for group, share in zip(groups, power, strict=True)
    )


def _range(least: float | None, most: float | None) -> str:
    return MISSING if least is None or most is None else defocus_range(least, most)


def _with_error(values: dict[str, Any], name: str, error_name: str, over: float | None = 1.0) -> str:
    value, error = number(values.get(name)), number(values.get(error_name))
    if value is None or error is None or not over:
        return MISSING
    digits = 3 if abs(value / over) < 1 and error / over < 0.01 else 2
    return f"{value / over:.{digits}f} ± {error / over:.{digits}f}".replace("-", "−")


def _chart(predictions: Sequence[dict[str, Any]]) -> Chart | None:
    """Resolution against particles, in two lines that meet at the run's own number."""
    known = [
        (ratio, particles, resolution)
        for ratio, particles, resolution in (
            tuple(number(one.get(name)) for name in ("ratio", "particles", "resolution_angstrom"))
            for one in predictions
        )
        if ratio is not None and particles is not None and resolution is not None
    ]
    if len(known) < 2:
        return None
    ratio, particles, resolution = np.array(known, dtype=np.float64).T
    series = [
        Series(label, particles, np.where(drawn, resolution, np.nan), role, points=True)
        for label, drawn, role in (
            ("read off the half maps", ratio <= 1, "role-a"),
            ("extrapolated", ratio >= 1, "role-d"),
        )
    ]
    limit = any(one.get("limited") for one in predictions)
    caption = (
        "Half maps' FSC at 0.143, if signal grows with the number of particles and orientations stay as accurate as "
        "they are. Beyond the particles of this run it is an extrapolation: better maps orient particles better, and "
        "particles that differ from one another gain less."
    )
    if limit:
        caption += " Where the line is flat at its end, the box sets the limit."
    x = Axis.spanning("particles", particles, from_zero=True)
    y = Axis.spanning("resolution (Å)", resolution)
    return line_chart("Resolution by number of particles", caption, series, x, y)
