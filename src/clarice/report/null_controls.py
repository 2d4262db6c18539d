"""Null controls: pictures of what the denoiser and classification made of images that show nothing, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clarice.report.charts import Axis, Chart, Series, line_chart
from clarice.report.folder import RunFiles, number, numbers, records
from clarice.report.pictures import contrast, grey_png
from clarice.report.wording import percent

_ROLES = ("role-a", "role-b", "role-c", "role-d")


@dataclass(frozen=True)
class ControlRow:
    """One kind of images: pictures of some of them denoised, of their class averages, and figures as text."""

    kind: str
    denoised: tuple[str, ...]
    averages: tuple[str, ...]
    power: str
    shared: str


@dataclass(frozen=True)
class NullControls:
    """All kinds, the particles first; `invents` where a method made something of nothing, `sentence` in words."""

    rows: tuple[ControlRow, ...]
    images: int
    invents: bool
    sentence: str
    chart: Chart | None


def null_controls(run: RunFiles) -> NullControls | None:
    """What `controls.json` and its pictures say; None before that stage has run."""
    record = run.json("controls.json")
    kinds = records(record.get("kinds"))
    if not kinds:
        return None
    rows: list[ControlRow] = []
    start, limits = 0, None
    for kind in kinds:
        counts = [int(number(kind.get(name)) or 0) for name in ("denoised", "averages")]
        images = run.images("controls.mrcs", range(start, start + sum(counts))) if sum(counts) else None
        start += sum(counts)
        pictures = np.zeros((0, 1, 1), np.float32) if images is None else images
        if limits is None and len(pictures):  # of particles: what is left of nothing is shown in the same greys
            limits = contrast(pictures[: counts[0]].reshape(-1, pictures.shape[-1]))
        denoised = tuple(grey_png(one, *(limits or (0.0, 1.0))) for one in pictures[: counts[0]])
        averages = tuple(grey_png(one, *contrast(one)) for one in pictures[counts[0] :])
        shared = number(kind.get("shared"))
        rows.append(
            ControlRow(
                str(kind.get("kind", "–")),
                denoised,
                averages,
                _share(number(kind.get("power_share"))),
                "–" if shared is None else _share(max(shared, 0.0)),
            )
        )
    sentence = str(record.get("sentence", ""))
    return NullControls(
        tuple(rows), int(number(record.get("images")) or 0), bool(record.get("invents")), sentence, _chart(kinds)
    )


def _share(value: float | None) -> str:
    if value is None:
        return "–"
    return "below 0.1 %" if value < 1e-3 else percent(1000 * value, 1000)


def _chart(kinds: Sequence[dict[str, Any]]) -> Chart | None:
    """Power that two images from disjoint sources share, by shell; None where the method has no sources."""
    caption = (
        "Each image denoised twice, from halves of its own Fourier coefficients and of the other images: the power "
        "that both results share, over the power that denoised particles have. Of particles it is their Fourier ring "
        "correlation; of images that show nothing it should be 0 but for the first shells, which tell how large and "
        "bright something is."
    )
    title = "What two images from disjoint sources share"
    return chart_of_kinds(kinds, "shared_curve", title, caption, "shared power", highest=1.5)


def chart_of_kinds(
    kinds: Sequence[dict[str, Any]], key: str, title: str, caption: str, quantity: str, highest: float
) -> Chart | None:
    """A curve by Fourier shell for each kind of images, under `key` of its record; None where no kind has one."""
    curves = [(str(kind.get("kind")), numbers(kind.get(key))) for kind in kinds]
    drawn = [
        Series(name, np.arange(1.0, len(curve)), curve[1:], role)
        for (name, curve), role in zip(curves, _ROLES, strict=False)
        if len(curve) > 1
    ]
    if not drawn:
        return None
    values = np.concatenate([series.y for series in drawn])
    x = Axis.spanning("Fourier shell", np.concatenate([series.x for series in drawn]), from_zero=True)
    y = Axis.spanning(quantity, np.clip(np.append(values, [0.0, 1.0]), -0.2, highest))
    return line_chart(title, caption, drawn, x, y)
