"""Maps side by side, each laid on the truth, and their FSC with it: a row and a chart for each structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clarice.benchmark.denoise_pictures import as_tile
from clarice.io.atomic import writing

TRUTH = "truth"
_TILE_PX, _GAP_PX, _HEAD_PX, _SIDE_PX = 128, 4, 34, 96
# A chart, drawn so many times as large as it is kept; its width, height and margins, pixels.
_FINER, _WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 3, 300, 200, 34, 30, 22
# Told apart by those who see colours otherwise as well (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_THRESHOLD = 0.5


@dataclass(frozen=True)
class ShownMap:
    """What a picture shows of a map laid on the truth: projection and central slice (L, L) along z, and the FSC."""

    projection: NDArray[np.float32]
    section: NDArray[np.float32]
    curve: NDArray[np.float64]
    pixel_size_angstrom: float

    @classmethod
    def of(cls, volume: NDArray[np.float32], curve: NDArray[np.float64], pixel_size_angstrom: float) -> ShownMap:
        """From a map (L, L, L), axes (z, y, x), and its FSC (L // 2 + 1,) with the truth."""
        return cls(volume.sum(axis=0), volume[len(volume) // 2], np.asarray(curve), pixel_size_angstrom)

    def save(self, path: Path) -> None:
        """Writes it for a later call."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> ShownMap:
        """What `save` wrote."""
        with np.load(path) as kept:
            size = float(kept["pixel_size_angstrom"])
            return cls(kept["projection"], kept["section"], kept["curve"], size)


# Maps by method, those of a structure by its name; the truth among them.
Shown = Mapping[str, Mapping[str, ShownMap]]


def draw_maps(shown: Shown, methods: Sequence[str], path: Path) -> None:
    """Writes a PNG of projections above sections: a row for each structure, a column for the truth and each method.

    Grey values of a row are those of its truth. Raises OutputError.
    """
    columns, step = (TRUTH, *methods), _TILE_PX + _GAP_PX
    canvas = Image.new("L", (_SIDE_PX + step * len(columns), _HEAD_PX + 2 * step * len(shown)), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, name in enumerate(columns):
        lines = name.replace("+", "\n+ ")
        draw.multiline_text((_SIDE_PX + number * step + _TILE_PX // 2, _HEAD_PX // 2), lines, 0, font, "mm")
    for row, (entry, maps) in enumerate(shown.items()):
        top = _HEAD_PX + 2 * row * step
        draw.text((4, top + step), entry, 0, font, "lm")
        for number, name in enumerate(columns):
            if name in maps:
                for place, what in enumerate(("projection", "section")):
                    tile = as_tile(getattr(maps[name], what), getattr(maps[TRUTH], what))
                    canvas.paste(tile, (_SIDE_PX + number * step, top + place * step))
    with writing(path) as temporary:
        canvas.save(temporary, format="PNG", optimize=True)


def draw_curves(shown: Shown, methods: Sequence[str], path: Path, columns: int = 3) -> None:
    """Writes a PNG of charts of FSC against spatial frequency, one for each structure, with a legend below.

    Raises OutputError.
    """
    rows = -(-len(shown) // columns)
    legend = 20 * (1 + -(-len(methods) // 2)) + 14
    size = (_WIDTH * max(2, min(columns, len(shown))), _HEIGHT * rows + legend)
    canvas = Image.new("RGB", (size[0] * _FINER, size[1] * _FINER), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12 * _FINER)
    for number, (entry, maps) in enumerate(shown.items()):
        corner = (_WIDTH * (number % columns), _HEIGHT * (number // columns))
        _chart(draw, font, corner, entry, {name: maps[name] for name in methods if name in maps}, methods)
    # The font has no Å.
    words = "up: FSC with the truth; to the right: resolution, angstrom, to Nyquist"
    draw.text((10 * _FINER, (_HEIGHT * rows + 8) * _FINER), words, "black", font, "lm")
    for number, name in enumerate(methods):
        x, y = 10 + (number % 2) * size[0] // 2, _HEIGHT * rows + 32 + 20 * (number // 2)
        _line(draw, [(x, y), (x + 24, y)], _COLOURS[number % len(_COLOURS)], 2)
        draw.text(((x + 30) * _FINER, y * _FINER), name, "black", font, "lm")
    with writing(path) as temporary:
        canvas.resize(size, Image.Resampling.LANCZOS).save(temporary, format="PNG", optimize=True)


def _chart(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    corner: tuple[int, int],
    title: str,
    maps: Mapping[str, ShownMap],
    methods: Sequence[str],
) -> None:
    """One chart, its upper left corner at `corner`; frequencies to Nyquist, FSC from 0 to 1."""
    left, top = corner[0] + _LEFT, corner[1] + _TOP
    right, bottom = corner[0] + _WIDTH - 10, corner[1] + _HEIGHT - _BOTTOM

    def place(share: float, value: float) -> tuple[float, float]:
        return left + share * (right - left), bottom - float(np.clip(value, 0, 1)) * (bottom - top)

    for value in (0.0, _THRESHOLD, 1.0):
        _line(draw, [place(0, value), place(1, value)], "#cccccc" if value else "#000000", 1)
        x, y = place(0, value)
        draw.text(((x - 4) * _FINER, y * _FINER), f"{value:g}", "black", font, "rm")
    draw.text((left * _FINER, (top - 12) * _FINER), title, "black", font, "lm")
    sizes = {shown.pixel_size_angstrom for shown in maps.values()}
    if sizes:
        nyquist = 2 * sizes.pop()
        for share in (0.25, 0.5, 1.0):
            x, y = place(share, 0)
            draw.text((x * _FINER, (y + 10) * _FINER), f"{nyquist / share:.1f}", "black", font, "mm")
    for name, shown in maps.items():
        shells = len(shown.curve) - 1
        points = [place(shell / shells, float(value)) for shell, value in enumerate(np.nan_to_num(shown.curve))]
        _line(draw, points, _COLOURS[list(methods).index(name) % len(_COLOURS)], 2)


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
    draw.line([(x * _FINER, y * _FINER) for x, y in points], colour, width * _FINER, joint="curve")
