"""Ratios between the methods of a cell are paired over structures, and the summary names the best network."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarice.benchmark.denoise_cells import CELL_KEYS
from clarice.benchmark.denoise_table import COLUMNS, add_ratios, paired_ratio, summarise
from clarice.benchmark.records import Results, Row


def row(method: str, errors: dict[str, float], size: int = 128, setting: str = "general", ms: float = 1.0) -> Row:
    cell = {"setting": setting, "size": size, "noise": "gaussian", "ctf": "off", "snr": 0.02}
    mean = sum(errors.values()) / len(errors)
    return {**cell, "method": method, "relative_mse": mean, "by_entry": errors, "ms_per_image": ms}


def test_pairing_takes_the_scatter_of_structures_out() -> None:
    """Errors that differ tenfold between structures, always halved: the ratio has no spread at all."""
    other = {"a": 0.1, "b": 0.5, "c": 1.0, "d": 0.2}
    ratio = paired_ratio({entry: error / 2 for entry, error in other.items()}, other)
    assert ratio is not None
    assert ratio[0] == pytest.approx(0.5)
    assert ratio[1] == pytest.approx([0.5, 0.5])


def test_only_common_structures_count_and_two_make_no_interval() -> None:
    assert paired_ratio({"a": 1.0, "b": 3.0, "x": 9.0}, {"a": 2.0, "b": 2.0}) == (1.0, None)
    assert paired_ratio({"a": 1.0}, {"b": 1.0}) is None


def test_ratios_are_to_the_best_single_image_network_of_the_cell() -> None:
    rows = [
        row("polar-transformer", {"a": 0.2, "b": 0.2}, ms=4.0),
        row("unet", {"a": 0.5, "b": 0.5}),
        row("dncnn", {"a": 0.4, "b": 0.4}, ms=2.0),
        row("covariance-wiener", {"a": 0.8, "b": 0.8}),
        row("dncnn", {"a": 0.1, "b": 0.1}, size=32),
        {**row("polar-cnn", {"a": 0.1, "b": 0.1}), "failed": True},
    ]
    add_ratios(rows)
    assert (rows[0]["best_network"], rows[0]["over_network"]) == ("dncnn", pytest.approx(0.5))
    assert rows[0]["over_covariance"] == pytest.approx(0.25)
    assert rows[3]["over_ours"] == pytest.approx(4.0)
    assert rows[2]["time_over_ours"] == pytest.approx(0.5)
    assert rows[4]["over_network"] == 1.0
    assert rows[4]["over_covariance"] is None


def test_the_summary_says_whether_error_falls_with_the_set(tmp_path: Path) -> None:
    results = Results("denoise", 1, {}, (*CELL_KEYS, "method"), COLUMNS)
    sizes = {1: 0.5, 8: 0.4, 32: 0.3, 128: 0.31}
    for size, error in sizes.items():
        setting = "single" if size == 1 else "general"
        results.put(row("polar-transformer", {"a": error}, size, setting))
        results.put(row("unet", {"a": 0.5}, size, setting))
    summarise(results)
    (growth,) = (text for name, text in results.summary.items() if "images a set" in name)
    assert growth == "1: 0.500, 8: 0.400, 32: 0.300, 128: 0.310 (does NOT fall)"
    assert results.summary["polar-transformer / unet, general 128, gaussian, CTF off, SNR 0.02"] == "0.620"
    results.save(tmp_path)
    assert "| general | 128 | gaussian |" in (tmp_path / "denoise.md").read_text()
