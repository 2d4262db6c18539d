"""Charts as inline SVG: drawn once, coloured by the page's theme, readable without scripts and on paper."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RIGHT, TOP, BOTTOM = 14.0, 12.0, 42.0
DIGIT_WIDTH = 6.4


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`; `second_labels`, when given, stand under the tick labels."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...] = ()
    second_labels: tuple[str, ...] = ()

    @classmethod
    def spanning(cls, label: str, values: FloatArray, from_zero: bool = False, count: int = 5) -> Axis:
        """An axis that holds all finite `values`, with about `count` round ticks."""
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        low = min(low, 0.0) if from_zero else low
        if high - low < 1e-9 * max(abs(high), abs(low), 1e-9):
            low, high = (0.0, high + 1.0) if from_zero else (low - 0.5, high + 0.5)
        step = round_step((high - low) / count)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(label, low, high, round_ticks(low, high, count))


@dataclass(frozen=True)
class Series:
    """One line of a chart, `x` and `y` (n,); `role` names its colour in the style sheet."""

    label: str
    x: FloatArray
    y: FloatArray
    role: str
    points: bool = False


@dataclass(frozen=True)
class Level:
    """A labelled reference line at `value`, horizontal or vertical."""

    value: float
    label: str
    vertical: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing with the words that stand for it: `svg` in two widths, legend entries (label, role)."""

    title: str
    caption: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 × a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-300)))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def round_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Round numbers within low..high, about `count` of them."""
    step = round_step((high - low) / count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def tick_text(value: float) -> str:
    """A tick label: thousands set apart, no needless decimals."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}").replace("-", "−")


class _Plot:
    """Places data on a drawing of `width` × `height` and gathers its elements."""

    def __init__(self, width: float, height: float, x: Axis, y: Axis) -> None:
        self.width, self.height, self.x_axis, self.y_axis = width, height, x, y
        self.left = 28 + DIGIT_WIDTH * max((len(tick_text(tick)) for tick in y.ticks), default=0)
        self.right, self.bottom = width - RIGHT, height - BOTTOM - (12 if x.second_labels else 0)
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        return self.left + (value - self.x_axis.low) / (self.x_axis.high - self.x_axis.low) * (self.right - self.left)

    def y(self, value: float) -> float:
        share = (value - self.y_axis.low) / (self.y_axis.high - self.y_axis.low)
        return self.bottom - share * (self.bottom - TOP)

    def text(self, x: float, y: float, words: str, css: str, anchor: str = "middle", extra: str = "") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}'
        self.parts.append(f'<text class="{css}" {place}>{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def axes(self) -> None:
        for tick in self.y_axis.ticks:
            self.line(self.left, self.y(tick), self.right, self.y(tick), "grid")
            self.text(self.left - 6, self.y(tick) + 3.5, tick_text(tick), "tick", "end")
        for index, tick in enumerate(self.x_axis.ticks):
            self.line(self.x(tick), self.bottom, self.x(tick), self.bottom + 4, "axis")
            self.text(self.x(tick), self.bottom + 16, tick_text(tick), "tick")
            if self.x_axis.second_labels:
                self.text(self.x(tick), self.bottom + 28, self.x_axis.second_labels[index], "tick faint")
        self.line(self.left, self.bottom, self.right, self.bottom, "axis")
        self.text((self.left + self.right) / 2, self.height - 6, self.x_axis.label, "label")
        middle = (TOP + self.bottom) / 2
        self.text(11, middle, self.y_axis.label, "label", extra=f' transform="rotate(-90 11 {middle:.1f})"')

    def levels(self, levels: Sequence[Level]) -> None:
        upright = sorted((level for level in levels if level.vertical), key=lambda level: level.value)
        for place, level in enumerate(upright):
            at = self.x(level.value)
            self.line(at, TOP, at, self.bottom, "level")
            flip = at > (self.left + self.right) / 2
            # Each label one line lower than the one before, so that near lines keep theirs apart.
            self.text(
                at + (-5 if flip else 5),
                TOP + 10 + 14 * place,
                level.label,
                "note",
                "end" if flip else "start",
            )
        for level in (level for level in levels if not level.vertical):
            at = self.y(level.value)
            self.line(self.left, at, self.right, at, "level")
            self.text(self.left + 4, at - 4, level.label, "note", "start")

    def path(self, series: Series) -> None:
        steps, pen = [], "M"
        for x, y in zip(series.x, series.y, strict=True):
            if not (math.isfinite(x) and math.isfinite(y)):
                pen = "M"
                continue
            clipped = min(max(y, self.y_axis.low), self.y_axis.high)
            steps.append(f"{pen}{self.x(x):.1f} {self.y(clipped):.1f}")
            pen = "L"
            if series.points:
                place = f'cx="{self.x(x):.1f}" cy="{self.y(clipped):.1f}"'
                self.parts.append(f'<circle {place} r="2.6" class="dot {series.role}"/>')
        self.parts.append(f'<path d="{"".join(steps)}" class="line {series.role}"/>')

    def svg(self, name: str, css: str, data: str = "") -> str:
        return (
            f'<svg class="chart {css}" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(name)}"{data}>{"".join(self.parts)}</svg>'
        )


def line_chart(
    title: str,
    caption: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    levels: Sequence[Level] = (),
    wide: bool = False,
) -> Chart:
    """Lines over common axes, read by pointing or with arrow keys; `wide` adds a drawing for desktops."""
    drawings = []
    for width, height, css in (
        ((600.0, 330.0, "for-wide"), (360.0, 270.0, "for-narrow")) if wide else ((360.0, 240.0, ""),)
    ):
        plot = _Plot(width, height, x, y)
        plot.axes()
        plot.levels(levels)
        for one in series:
            plot.path(one)
        drawings.append(plot.svg(f"{title}. {caption}", css, _readout(plot, series)))
    return Chart(title, caption, Markup("".join(drawings)), tuple((one.label, one.role) for one in series))


def _readout(plot: _Plot, series: Sequence[Series]) -> str:
    """What the page's script needs to name the values under the pointer."""
    longest = max(series, key=lambda one: len(one.x))
    content = {
        "left": plot.left,
        "right": plot.right,
        "top": TOP,
        "bottom": plot.bottom,
        "low": plot.x_axis.low,
        "high": plot.x_axis.high,
        "label": plot.x_axis.label,
        "reciprocal": bool(plot.x_axis.second_labels),
        "x": [float(f"{v:.5g}") for v in longest.x],
        "series": [
            {"label": one.label, "y": [float(f"{v:.4g}") if math.isfinite(v) else None for v in one.y]}
            for one in series
            if len(one.x) == len(longest.x)
        ],
    }
    return f' tabindex="0" data-readout="{escape(json.dumps(content, separators=(",", ":")))}"'


def histogram(
    title: str, caption: str, values: FloatArray, x_label: str, bins: int = 24, counted: str = "particles"
) -> Chart:
    """How many particles, or whatever is `counted`, fall in each of about `bins` equal steps of `values` (n,)."""
    axis = Axis.spanning(x_label, values)
    counts, edges = np.histogram(values, bins=bins, range=(axis.low, axis.high))
    plot = _Plot(360.0, 240.0, axis, Axis.spanning(counted, counts.astype(np.float64), from_zero=True, count=4))
    plot.axes()
    for low, high, size in zip(edges[:-1], edges[1:], counts, strict=True):
        top, width = plot.y(float(size)), max(plot.x(high) - plot.x(low) - 1, 0.5)
        place = f'x="{plot.x(low) + 0.5:.1f}" y="{top:.1f}" width="{width:.1f}" height="{plot.bottom - top:.1f}"'
        words = f"{low:.5g} to {high:.5g}: {size:,} {counted}"
        plot.parts.append(f'<rect class="bar" {place}><title>{words}</title></rect>')
    return Chart(title, caption, Markup(plot.svg(f"{title}. {caption}", "")))
