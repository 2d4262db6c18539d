"""Where the particles look from: a Mollweide map of view density."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from clarice.geometry.so3 import sphere_grid
from clarice.metrics.view_coverage import CELLS, SMOOTHING_DEG
from clarice.report.charts import Chart, tick_text
from clarice.report.pictures import colour_png, heat_colours

FloatArray = NDArray[np.float64]


def density(directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cell centres (c, 3) and smoothed view density there, 1 where views are as many as if spread evenly."""
    cells = sphere_grid(CELLS)
    _, nearest = cKDTree(cells).query(directions)
    counts = np.bincount(nearest, minlength=CELLS).astype(np.float64)
    kernel = np.exp((cells @ cells.T - 1) / math.radians(SMOOTHING_DEG) ** 2)
    kernel /= kernel.sum(axis=0, keepdims=True)
    smoothed: FloatArray = kernel @ counts * (CELLS / max(len(directions), 1))
    return cells, smoothed


def orientation_map(directions: FloatArray) -> Chart:
    """View density as a Mollweide map (equal areas stay equal): rot runs sideways, tilt from 0° (top) to 180°."""
    cells, values = density(directions)
    top = max(float(values.max()), 2.0)
    picture, inside = _painted(cells, values)
    caption = f"Density of views; the densest place holds {values.max():.1f} times as many as an even spread."
    title, ends, even = "Viewing directions", ("0", f"{top:.1f} × even"), (66 + 228 / top, "even")
    return Chart(title, caption, _map_svg(colour_png(picture / top, inside), title, caption, ends, even))


def direction_map(directions: FloatArray, values: FloatArray, title: str, caption: str, unit: str) -> Chart:
    """Values (d,) of directions (d, 3) and their opposites as the same map, from the least to the largest."""
    low, high = float(values.min()), float(values.max())
    picture, inside = _painted(np.concatenate([directions, -directions]), np.concatenate([values, values]))
    scaled = (picture - low) / max(high - low, 1e-9)
    ends = (f"{low:.1f} {unit}", f"{high:.1f} {unit}")
    return Chart(title, caption, _map_svg(colour_png(scaled, inside), title, caption, ends))


def _painted(cells: FloatArray, values: FloatArray, height_px: int = 180) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Values (c,) of directions (c, 3) at each pixel of a Mollweide map, and which pixels lie on the sphere."""
    y, x = np.mgrid[1 : -1 : height_px * 1j, -2 : 2 : 2 * height_px * 1j]
    inside = x**2 / 4 + y**2 <= 1
    theta = np.arcsin(y)
    latitude = np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1))
    longitude = np.pi * x / (2 * np.maximum(np.cos(theta), 1e-9))
    points = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], -1
    )
    near, index = cKDTree(cells).query(points[inside], k=3)
    weights = 1 / (np.asarray(near) + 1e-6)
    picture = np.zeros(x.shape)
    picture[inside] = (values[index] * weights).sum(axis=1) / weights.sum(axis=1)
    return picture, inside


def _mollweide(longitude_deg: float, latitude_deg: float) -> tuple[float, float]:
    """Drawing coordinates of a point; Newton's steps for 2θ + sin 2θ = π sin(latitude)."""
    latitude, theta = math.radians(latitude_deg), math.radians(latitude_deg) * 0.8
    for _ in range(20):
        slope = 2 + 2 * math.cos(2 * theta)
        theta -= (2 * theta + math.sin(2 * theta) - math.pi * math.sin(latitude)) / max(slope, 1e-9)
    return 180 + 170 * math.radians(longitude_deg) / math.pi * math.cos(theta), 97 - 85 * math.sin(theta)


def _graticule() -> str:
    paths = []
    for longitude in (-90, 0, 90):
        line = [_mollweide(longitude, latitude) for latitude in range(-85, 86, 5)]
        paths.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line))
    for latitude in (-45, 0, 45):
        paths.append(
            "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (_mollweide(-180, latitude), _mollweide(180, latitude)))
        )
    return f'<path d="{"".join(paths)}" class="graticule"/>'


def _map_svg(
    picture: str, title: str, caption: str, ends: tuple[str, str], mark: tuple[float, str] | None = None
) -> Markup:
    """The map with its graticule and colour bar, labelled at both `ends` and, if wanted, at one `mark` (x, words)."""
    stops = "".join(
        f'<stop offset="{share:.2f}" stop-color="rgb({red},{green},{blue})"/>'
        for share, (red, green, blue) in zip(np.linspace(0, 1, 6), heat_colours(np.linspace(0, 1, 6)), strict=True)
    )
    labels = "".join(
        f'<text x="{x:.0f}" y="{y:.0f}" class="tick" text-anchor="{anchor}">{words}</text>'
        for x, y, words, anchor in (
            (180, 9, "tilt 0°", "middle"),
            (180, 194, "tilt 180°", "middle"),
            (60, 224, ends[0], "end"),
            (300, 224, ends[1], "start"),
        )
    )
    rot = "".join(
        f'<text x="{x:.0f}" y="108" class="onmap" text-anchor="middle">{words}</text>'
        for x, words in ((_mollweide(angle, 0)[0], f"{tick_text(angle)}°") for angle in (-90, 0, 90))
    )
    bar = "bar-" + "-".join(title.lower().split())
    line = ""
    if mark is not None:
        at, words = mark
        line = (
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="210" y2="226" class="level"/>'
            f'<text x="{at:.1f}" y="207" class="tick" text-anchor="middle">{words}</text>'
        )
    return Markup(
        f'<svg class="chart" viewBox="0 0 360 232" role="img" aria-label="{escape(f"{title}. {caption}")}">'
        f'<defs><linearGradient id="{bar}">{stops}</linearGradient></defs>'
        f'<image href="{picture}" x="10" y="12" width="340" height="170" preserveAspectRatio="none"/>'
        f'{_graticule()}<ellipse cx="180" cy="97" rx="170" ry="85" class="outline"/>{rot}{labels}'
        f'<rect x="66" y="214" width="228" height="12" rx="2" fill="url(#{bar})"/>{line}</svg>'
    )
