"""Particles of one frame, what methods made of them, and the mean of all other frames, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clarice.benchmark.denoise_pictures import as_tile
from clarice.core.particles import ParticleSet, spread_rows
from clarice.io.atomic import writing

_SHOWN = 6
_GAP_PX, _HEAD_PX = 4, 34


def draw_particles(columns: Mapping[str, ParticleSet], path: Path) -> None:
    """A row for each of six particles, a column for each stack of the same particles, in grey values of its own."""
    stacks = list(columns.values())
    rows = spread_rows(np.arange(len(stacks[0])), _SHOWN)
    tiles = []
    for stack in stacks:
        images = stack.read(rows)
        tiles.append([as_tile(image, images) for image in images])
    width, height = (edge + _GAP_PX for edge in tiles[0][0].size)
    canvas = Image.new("L", (width * len(tiles), _HEAD_PX + height * len(rows)), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, (name, column) in enumerate(zip(columns, tiles, strict=True)):
        lines = name.replace(", ", "\n")
        draw.multiline_text((number * width + width // 2, _HEAD_PX // 2), lines, 0, font, "mm", align="center")
        for row, tile in enumerate(column):
            canvas.paste(tile, (number * width, _HEAD_PX + row * height))
    with writing(path) as temporary:
        canvas.save(temporary, format="PNG", optimize=True)
