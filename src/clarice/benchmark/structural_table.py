"""The table of the protocol `structural-noise`: columns, and what it says in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from clarice.benchmark.denoise_table import QUALITY
from clarice.benchmark.records import Column, Results, Row
from clarice.benchmark.structural_cells import CELL_KEYS

_INTERVAL = "{0[0]:.3f} to {0[1]:.3f}"
COLUMNS = (
    Column("structural noise", "kind"),
    Column("strength", "strength", "{:g}"),
    Column("SNR", "snr", "{:g}"),
    Column("method", "method"),
    Column("relative MSE", "relative_mse", "{:.3f}"),
    Column("95 %", "relative_mse_interval", _INTERVAL),
    *QUALITY,
    Column("true poses: halves 0.143, px", "true_halves_px", "{:.2f}"),
    Column("truth 0.5, px", "true_truth_px", "{:.2f}"),
    Column("estimated poses: halves 0.143, px", "estimated_halves_px", "{:.2f}"),
    Column("truth 0.5, px", "estimated_truth_px", "{:.2f}"),
    Column("raw particles there: halves 0.143, px", "raw_estimated_halves_px", "{:.2f}"),
    Column("truth 0.5, px", "raw_estimated_truth_px", "{:.2f}"),
    Column("orientation, °", "orientation_deg", "{:.1f}"),
    Column("coverage of 90 %", "coverage_90", "{:.3f}"),
    Column("foretold error over actual", "foretold_error", "{:.2f}"),
    Column("ms an image", "ms_per_image", "{:.1f}"),
    Column("structures", "structures"),
    Column("note", "note"),
)
# Halves that agree so much further than the map agrees with the truth mislead.
_MISLEADING_PX = 0.25


def cells(rows: Sequence[Row]) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """Rows that came to an end, cell by cell."""

    def cell(row: Row) -> tuple[Any, ...]:
        return tuple(row[key] for key in CELL_KEYS)

    finished = sorted((row for row in rows if not row.get("failed")), key=cell)
    for key, group in groupby(finished, key=cell):
        yield key, list(group)


def summarise(results: Results) -> None:
    """Who is first in each cell and by how much, and where half maps of denoised images mislead."""
    texts: dict[str, str] = {}
    misled: list[str] = []
    for (kind, strength, snr), rows in cells(results.rows):
        name = f"{kind} {strength:g}, SNR {snr:g}"
        for key, form, unit in (("psnr_db", "{:.2f}", " dB"), ("ssim", "{:.3f}", "")):
            ranked = sorted(rows, key=lambda row: -float(row[key]))
            told = [f"{row['method']} {form.format(row[key])}{unit}" for row in ranked[:3]]
            texts[f"{key.split('_')[0].upper()}, {name}"] = ", ".join(told)
        for row in rows:
            for poses in ("true", "estimated"):
                halves, truth = row.get(f"{poses}_halves_px"), row.get(f"{poses}_truth_px")
                if halves is not None and truth - halves > _MISLEADING_PX and row["method"] != "raw":
                    misled.append(f"{row['method']} on {name}, {poses} poses ({halves:.2f} against {truth:.2f} px)")
    if misled:
        texts["half maps of denoised images agree beyond where the map is right"] = "; ".join(misled)
    results.summary = texts
