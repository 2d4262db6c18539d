"""How far the half maps agree: the FSC curves with their thresholds and Nyquist."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clarice.core.particles import FloatArray
from clarice.metrics.shells import finest_angstrom, resolution_at
from clarice.report.charts import Axis, Chart, Level, Series, line_chart, round_ticks
from clarice.report.folder import RunFiles, number, numbers
from clarice.report.wording import angstrom, reached

CURVES = (
    ("unmasked", "unmasked", "role-b"),
    ("masked", "masked", "role-c"),
    ("phase_randomised", "phase-randomised", "role-d"),
    ("corrected", "corrected", "role-a"),
)


@dataclass(frozen=True)
class Crossing:
    """Where one curve first falls below each threshold, as text."""

    curve: str
    at_0143: str
    at_05: str


@dataclass(frozen=True)
class Resolution:
    """Resolutions in Å (None where unknown), the chart, and each curve's own crossings."""

    at_0143_angstrom: float | None
    at_05_angstrom: float | None
    nyquist_angstrom: float | None
    finest_angstrom: float | None
    chart: Chart | None
    crossings: tuple[Crossing, ...]

    @property
    def reaches_nyquist(self) -> bool:
        """Whether the half maps agree up to the last shell: then the box, not the data, sets the limit."""
        if self.at_0143_angstrom is None or self.nyquist_angstrom is None:
            return False
        return self.at_0143_angstrom <= 1.02 * max(self.nyquist_angstrom, self.finest_angstrom or 0.0)


def resolution(run: RunFiles) -> Resolution | None:
    """Read from fsc.json; None before refinement."""
    content = run.json("fsc.json")
    if not content:
        return None
    stated = content.get("resolution_angstrom")
    stated = stated if isinstance(stated, dict) else {}
    nyquist = number(content.get("nyquist_angstrom"))
    curves = content.get("curves")
    frequency = numbers(content.get("spatial_frequency_per_angstrom"))
    last = number(content.get("last_shell"))
    measured = None if last is None else int(last) + 1
    drawn = []
    for name, label, role in CURVES:
        values = numbers(curves.get(name)) if isinstance(curves, dict) else np.empty(0)
        if len(values) > 1 and len(values) == len(frequency):
            drawn.append(Series(label, frequency[:measured], values[:measured], role))
    finest = number(content.get("finest_angstrom"))
    chart = _chart(drawn, nyquist, finest, number(stated.get("0.143"))) if drawn else None
    crossings = _crossings(drawn, number(content.get("box")), number(content.get("pixel_size_angstrom")))
    return Resolution(number(stated.get("0.143")), number(stated.get("0.5")), nyquist, finest, chart, crossings)


def _crossings(drawn: list[Series], box: float | None, pixel_size: float | None) -> tuple[Crossing, ...]:
    if box is None or pixel_size is None:
        return ()

    def words(curve: FloatArray, level: float) -> str:
        last = len(curve) - 1
        found = resolution_at(curve, level, pixel_size, int(box), last)
        finest = finest_angstrom(int(box), pixel_size, last)
        return f"≤ {angstrom(finest)}" if found <= finest * (1 + 1e-6) else angstrom(found)

    return tuple(
        Crossing(one.label, *(words(one.y, level) for level in (0.143, 0.5)))
        for one in drawn
        if one.label != "phase-randomised"
    )


def _chart(drawn: list[Series], nyquist: float | None, finest: float | None, at_0143: float | None) -> Chart:
    frequency = drawn[0].x
    limit = 1 / nyquist if nyquist else float(frequency.max())
    ticks = tuple(tick for tick in round_ticks(0, limit, 5) if tick > 0)
    x = Axis("spatial frequency (1/Å)", 0.0, limit * 1.03, ticks, tuple(f"{1 / tick:.3g} Å" for tick in ticks))
    lowest = min(float(np.nanmin(one.y)) for one in drawn)
    low = -0.2 if lowest < -0.05 else 0.0
    y = Axis(
        "Fourier shell correlation",
        low,
        1.0,
        tuple(t for t in (-0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0) if t >= low),
    )
    levels = [
        Level(0.143, "0.143"),
        Level(0.5, "0.5"),
        Level(limit, f"Nyquist {angstrom(nyquist)}", vertical=True),
    ]
    caption = "Correlation of the two independent half maps, shell by shell."
    if at_0143 is not None:
        caption += f" It falls below 0.143 at {reached(at_0143, nyquist, finest)}; Nyquist is {angstrom(nyquist)}."
        if at_0143 > 1.05 / limit:
            levels.append(Level(1 / at_0143, angstrom(at_0143), vertical=True))
    return line_chart("Fourier shell correlation", caption, drawn, x, y, levels, wide=True)
