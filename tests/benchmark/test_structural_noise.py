"""The protocol `structural-noise` on small stacks: rows, maps, coverage, and what the table says in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clarice.benchmark.denoise_methods import our_methods
from clarice.benchmark.denoise_provenance import coverage
from clarice.benchmark.records import Results, Row
from clarice.benchmark.structural_cells import KINDS, StructuralCell, cells_of
from clarice.benchmark.structural_noise import RAW, StructuralRequest, raw_images, structural_noise
from clarice.benchmark.structural_table import COLUMNS, summarise
from clarice.benchmark.structures import load_subject
from clarice.core.errors import UsageError

Make = Callable[..., StructuralRequest]


def nothing(_: Row) -> None:
    """Shows no row."""


@pytest.fixture
def request_of(tmp_path: Path) -> Make:
    """Makes a request for raw and Wiener-filtered images of a molecule; keywords replace its fields."""

    def make(**changes: Any) -> StructuralRequest:
        fields: dict[str, Any] = {
            "subjects": [load_subject("molecule-105", None)],
            "collection": "procedural molecules",
            "cells": cells_of(["none", "carbon"], [1.0], [1.0]),
            "methods": [raw_images(), our_methods()["wiener"]],
            "out": tmp_path / "out",
            "work": tmp_path / "work",
            "particles": 150,
            "box": 32,
            "threads": 1,
        }
        for name in ("out", "work"):
            (tmp_path / name).mkdir(exist_ok=True)
        return StructuralRequest(**{**fields, **changes})

    return make


def test_carbon_makes_images_worse_and_every_map_is_judged(request_of: Make) -> None:
    request = request_of()
    rows = {(row["kind"], row["method"]): row for row in structural_noise(request, shown=nothing).rows}
    assert len(rows) == 4
    assert not any(row.get("failed") for row in rows.values())
    plain, carbon = rows["none", "wiener"], rows["carbon", "wiener"]
    assert carbon["relative_mse"] > plain["relative_mse"]
    assert carbon["ssim"] < plain["ssim"]
    assert plain["relative_mse"] < rows["none", RAW]["relative_mse"]
    for row in rows.values():
        for name in ("true", "estimated", "raw_estimated"):
            assert 2 <= row[f"{name}_halves_px"] <= 32
            assert 2 <= row[f"{name}_truth_px"] <= 32
    assert rows["none", RAW]["true_truth_px"] < 6  # particles at their true poses give a map
    assert plain["orientation_deg"] < 40
    with Image.open(request.out / "structural-noise.png") as picture:
        assert picture.height > 2 * 128
    again = structural_noise(request_of(resume=True), shown=lambda row: pytest.fail(f"{row} was measured again"))
    assert len(again.rows) == 4


def test_images_alone_are_compared_without_maps(request_of: Make) -> None:
    rows = structural_noise(request_of(maps=False, cells=cells_of(["none"], [1], [1])), shown=nothing).rows
    assert all("true_truth_px" not in row for row in rows)


def test_cells_are_every_kind_at_the_strengths_it_can_have() -> None:
    found = cells_of(KINDS, [1.0, 2.0], [0.1])
    assert len([cell for cell in found if cell.kind == "none"]) == 1
    assert [cell.strength for cell in found if cell.kind == "floppy"] == [1.0]
    mixed = StructuralCell("mixed", 2.0, 0.1).noise
    assert mixed.carbon == 1.0
    assert mixed.floppy == 1.0
    assert not StructuralCell("none", 0.0, 0.1).noise.present


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((["dust"], [1.0], [0.1]), "--kinds 'dust'"),
        (([], [1.0], [0.1]), "--kinds ''"),
        ((["ice"], [0.0], [0.1]), "--strengths"),
        ((["ice"], [1.0], []), "--snr"),
        ((["floppy"], [2.0], [0.1]), "leave nothing"),
    ],
)
def test_cells_that_cannot_be_are_refused(given: tuple[list[str], list[float], list[float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cells_of(*given)


def test_structures_of_fine_pixels_are_left_out(request_of: Make) -> None:
    with pytest.raises(UsageError, match="no structure's pixel"):
        request_of(box=128)
    with pytest.raises(UsageError, match="--particles 8"):
        request_of(particles=8)


def test_intervals_cover_as_much_as_they_say() -> None:
    generator = torch.Generator().manual_seed(1)
    samples = 2 * torch.randn((4, 50, 32, 32), generator=generator)  # of each image four
    clean = 2 * torch.randn((50, 32, 32), generator=generator)
    mean, deviation = samples.mean(dim=0).numpy(), samples.std(dim=0).numpy()
    assert coverage(mean, deviation, clean.numpy(), 4) == pytest.approx(0.9, abs=0.01)
    assert coverage(mean, deviation / 3, clean.numpy(), 4) < 0.7
    # A mean that was corrected no longer goes astray with its few samples.
    truth = torch.zeros_like(clean).numpy()
    assert coverage(clean.numpy(), deviation, truth, 4, corrected=True) == pytest.approx(0.9, abs=0.01)


def test_the_summary_ranks_methods_and_warns_of_half_maps() -> None:
    results = Results("structural-noise", 1, {}, ("kind", "strength", "snr", "method"), COLUMNS)
    same = {"kind": "ice", "strength": 1.0, "snr": 0.1, "true_halves_px": 2.0}
    results.put({**same, "method": "a", "psnr_db": 10.0, "ssim": 0.9, "true_truth_px": 2.1})
    results.put({**same, "method": "b", "psnr_db": 12.0, "ssim": 0.8, "true_truth_px": 3.0})
    estimated = {"true_truth_px": 2.1, "estimated_halves_px": 2.5, "estimated_truth_px": 4.0}
    results.put({**same, "method": "c", "psnr_db": 11.0, "ssim": 0.7, **estimated})
    summarise(results)
    assert results.summary["PSNR, ice 1, SNR 0.1"] == "b 12.00 dB, c 11.00 dB, a 10.00 dB"
    assert results.summary["SSIM, ice 1, SNR 0.1"] == "a 0.900, b 0.800, c 0.700"
    told = [text for name, text in results.summary.items() if "half maps" in name]
    wrong = ["b on ice 1, SNR 0.1, true poses (2.00 against 3.00 px)"]
    wrong += ["c on ice 1, SNR 0.1, estimated poses (2.50 against 4.00 px)"]
    assert told == ["; ".join(wrong)]
