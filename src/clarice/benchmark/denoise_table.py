"""The table of the protocol `denoise`: columns, ratios between the methods of a cell, and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from clarice.benchmark.denoise_cells import CELL_KEYS
from clarice.benchmark.denoise_methods import COVARIANCE, OURS
from clarice.benchmark.records import Column, Results, Row
from clarice.denoise.networks import NETWORKS

_INTERVAL = "{0[0]:.3f} to {0[1]:.3f}"
_DRAWS = 2000
# Of images beside their relative error, in every table of them.
QUALITY = (
    Column("PSNR, dB", "psnr_db", "{:.2f}"),
    Column("SSIM", "ssim", "{:.3f}"),
    Column("FRC 0.5, 1/px", "frc_05", "{:.3f}"),
    Column("FRC 0.143, 1/px", "frc_0143", "{:.3f}"),
)
COLUMNS = (
    Column("views", "setting"),
    Column("images a set", "size"),
    Column("noise", "noise"),
    Column("CTF and shifts", "ctf"),
    Column("SNR", "snr", "{:g}"),
    Column("method", "method"),
    Column("relative MSE", "relative_mse", "{:.3f}"),
    Column("95 %", "relative_mse_interval", _INTERVAL),
    Column("over best single-image network", "over_network", "{:.3f}"),
    Column("95 %", "over_network_interval", _INTERVAL),
    Column("over covariance Wiener", "over_covariance", "{:.3f}"),
    Column("95 %", "over_covariance_interval", _INTERVAL),
    Column("over ours", "over_ours", "{:.3f}"),
    Column("95 %", "over_ours_interval", _INTERVAL),
    *QUALITY,
    Column("power out of noise", "null", "{:.4f}"),
    Column("purity", "purity", "{:.2f}"),
    Column("ARI", "ari", "{:.2f}"),
    Column("angle, °", "angle_error_deg", "{:.1f}"),
    Column("foretold error over actual", "foretold_error", "{:.2f}"),
    Column("coverage of 90 %", "coverage_90", "{:.3f}"),
    Column("ms an image", "ms_per_image", "{:.2f}"),
    Column("time over ours", "time_over_ours", "{:.2f}"),
    Column("parameters", "parameters", "{:,}"),
    Column("images trained on", "images_trained", "{:,}"),
    Column("structures", "structures"),
    Column("note", "note"),
)


def cell_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the cell of a row."""
    return tuple(row.get(key) for key in CELL_KEYS)


def cells(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that came to an end, cell by cell."""
    finished = sorted((row for row in rows if not row.get("failed")), key=lambda row: str(cell_of(row)))
    for _, group in groupby(finished, key=cell_of):
        yield list(group)


def paired_ratio(ours: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, list[float] | None] | None:
    """Mean error over that of another method on the structures both have, and its 95 % interval from three on.

    Structures are drawn with replacement, the same ones for both.
    """
    entries = [entry for entry in ours if entry in other]
    if not entries:
        return None
    a, b = (np.array([errors[entry] for entry in entries]) for errors in (ours, other))
    ratio = float(a.mean() / b.mean())
    if len(entries) < 3:
        return ratio, None
    draws = np.random.default_rng(0).integers(len(entries), size=(_DRAWS, len(entries)))
    low, high = np.percentile(a[draws].mean(axis=1) / b[draws].mean(axis=1), [2.5, 97.5])
    return ratio, [float(low), float(high)]


def best_network(rows: Sequence[Row]) -> Row | None:
    """The single-image network of least error in a cell."""
    networks = [row for row in rows if row["method"] in NETWORKS and NETWORKS[row["method"]].alone]
    return min(networks, key=lambda row: float(row["relative_mse"]), default=None)


def add_ratios(rows: Sequence[Row]) -> None:
    """Puts each row's ratios to the others of its cell into it."""
    for group in cells(rows):
        named = {row["method"]: row for row in group}
        network, covariance, ours = best_network(group), named.get(COVARIANCE), named.get(OURS)
        for row in group:
            for key, other in (("over_network", network), ("over_covariance", covariance), ("over_ours", ours)):
                found = None if other is None else paired_ratio(row["by_entry"], other["by_entry"])
                row[key], row[f"{key}_interval"] = (None, None) if found is None else found
            row["best_network"] = None if network is None else network["method"]
            row["time_over_ours"] = None if ours is None else row["ms_per_image"] / ours["ms_per_image"]


def summarise(results: Results) -> None:
    """Ratios of the polar transformer to the best single-image network, and its error as sets grow."""
    add_ratios(results.rows)
    texts: dict[str, str] = {}
    growth: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in results.rows:
        if row["method"] != OURS or row.get("failed"):
            continue
        growth.setdefault((row["setting"], *cell_of(row)[2:]), {})[row["size"]] = row["relative_mse"]
        if row.get("over_network") is not None:
            interval = row["over_network_interval"]
            text = f"{row['over_network']:.3f}" + ("" if interval is None else f" (95 %: {_INTERVAL.format(interval)})")
            texts[f"{OURS} / {row['best_network']}, {_words(cell_of(row))}"] = text
    alone = {key[1:]: errors for key, errors in growth.items() if key[0] == "single"}
    for key, grown in growth.items():
        errors = {**alone.get(key[1:], {}), **grown}
        if len(errors) > 1:
            told = ", ".join(f"{size}: {errors[size]:.3f}" for size in sorted(errors))
            falls = all(np.diff([errors[size] for size in sorted(errors)]) < 0)
            name = _words((key[0], None, *key[1:]))
            texts[f"{OURS}, error by images a set, {name}"] = f"{told} ({'falls' if falls else 'does NOT fall'})"
    results.summary = texts


def _words(cell: tuple[Any, ...]) -> str:
    setting, size, noise, ctf, snr = cell
    images = "" if size is None else f" {size}"
    return f"{setting}{images}, {noise}, CTF {ctf}, SNR {snr:g}"
