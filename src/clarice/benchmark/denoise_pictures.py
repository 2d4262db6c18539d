"""Images side by side: raw, what each method made of it, and the truth, a row for each SNR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clarice.benchmark.denoise_cells import Cell, Grid
from clarice.benchmark.denoise_sets import Images, ImageSet
from clarice.benchmark.structures import Subject
from clarice.io.atomic import writing

_RAW, _TRUTH = "raw", "truth"
_TILE_PX, _GAP_PX, _HEAD_PX, _SIDE_PX = 128, 4, 34, 78
# Structures shown for each SNR, and the shares of grey values cut off at either end.
_STRUCTURES, _CUT_PERCENT = 2, 0.5


class Shown(Protocol):
    """A cell of a table, as pictures show it."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...


def _sample_path(work: Path, cell: Shown, entry: str, name: str) -> Path:
    return work / "samples" / f"{cell.name}_{entry}_{name}.npy"


def keep_sample(work: Path, cell: Shown, method: str, images: Images, truth: ImageSet) -> None:
    """Keeps the first image of a set as the method made it, beside the raw one and the truth."""
    (work / "samples").mkdir(parents=True, exist_ok=True)
    for name, stack in ((_RAW, truth.noisy), (_TRUTH, truth.clean), (method, images)):
        np.save(_sample_path(work, cell, truth.subject.entry, name), stack[0].astype(np.float32))


def draw_sheets(grid: Grid, subjects: Sequence[Subject], methods: Sequence[str], work: Path, out: Path) -> list[Path]:
    """A picture for each setting, noise and CTF of the grid, of its largest sets with samples: `out/denoise-….png`."""
    largest: dict[tuple[str, str, str], tuple[Path, list[tuple[Cell, str]]]] = {}
    for sheet in sorted(grid.sheets(), key=lambda sheet: sheet.size):
        cells = list(grid.cells(sheet))
        for noise in grid.noises:
            rows = [
                (cell, entry)
                for cell in sorted((c for c in cells if c.noise == noise), key=lambda c: -c.snr)
                for entry in samples_of(cell, [subject.entry for subject in subjects], work)[:_STRUCTURES]
            ]
            if rows:
                path = out / f"denoise-{sheet.setting}-{sheet.size}-{noise}-ctf-{sheet.ctf}.png"
                largest[sheet.setting, noise, sheet.ctf] = path, rows
    for path, rows in largest.values():
        shown = [name for name in methods if any(_sample_path(work, *row, name).is_file() for row in rows)]
        with writing(path) as temporary:
            picture(rows, (_RAW, *shown, _TRUTH), work).save(temporary, format="PNG", optimize=True)
    return [path for path, _ in largest.values()]


def samples_of(cell: Shown, entries: Sequence[str], work: Path) -> list[str]:
    """The structures of which samples were kept."""
    return [entry for entry in entries if _sample_path(work, cell, entry, _TRUTH).is_file()]


def picture(rows: Sequence[tuple[Shown, str]], columns: Sequence[str], work: Path) -> Image.Image:
    """The samples of `rows` (cell and structure) by `columns`; grey values of a row are those of its truth."""
    step = _TILE_PX + _GAP_PX
    canvas = Image.new("L", (_SIDE_PX + step * len(columns), _HEAD_PX + step * len(rows)), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for number, name in enumerate(columns):
        lines = name.replace("+", "\n+ ")
        draw.multiline_text((_SIDE_PX + number * step + _TILE_PX // 2, _HEAD_PX // 2), lines, 0, font, "mm")
    for row, (cell, entry) in enumerate(rows):
        top = _HEAD_PX + row * step
        draw.multiline_text((4, top + _TILE_PX // 2), f"{cell.label}\n{entry}", 0, font, "lm")
        truth = np.load(_sample_path(work, cell, entry, _TRUTH))
        for number, name in enumerate(columns):
            path = _sample_path(work, cell, entry, name)
            if path.is_file():
                values = np.load(path)
                tile = as_tile(values, values if name == _RAW else truth)
                canvas.paste(tile, (_SIDE_PX + number * step, top))
    return canvas


def as_tile(values: Images, scale: Images) -> Image.Image:
    """An image in grey, protein bright, from the darkest to the brightest values of `scale`."""
    low, high = np.percentile(scale, [_CUT_PERCENT, 100 - _CUT_PERCENT])
    span = (high - low) or 1.0
    # A little room on either side shows where an estimate leaves the truth's range.
    grey: NDArray[np.uint8] = np.clip(255 * (values - low + 0.1 * span) / (1.2 * span), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize((_TILE_PX, _TILE_PX), Image.Resampling.BICUBIC)
