"""Common lines beside ASPIRE: images as they are described, both programs judged alike, missing ones told."""

from __future__ import annotations

import logging
import math
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clarice.abinitio.line_scores import LineSettings
from clarice.benchmark.line_contest import ASPIRE, ASPIRE_DRIVER, OURS, LineRequest, line_contest, make_images
from clarice.benchmark.main_job import Request
from clarice.benchmark.peer_aspire import PYTHON_VARIABLE, aspire_python
from clarice.benchmark.protocol import StackSettings
from clarice.benchmark.records import Row

# A program in ASPIRE's place: it finds 30 rotations of one kind, and lines that all run along x.
STAND_IN = f"""#!{sys.executable}
import sys
import numpy as np
with np.load(sys.argv[-2]) as given:
    count = len(given["images"])
    assert int(given["n_angles"]) == 360
np.savez(
    sys.argv[-1],
    angle_rad=np.zeros((count, count)),
    rotations=np.broadcast_to(np.eye(3), (count, 3, 3)),
    lines_seconds=10.0,
    seconds=20.0,
    version="9.9",
)
"""


def nothing(_: Row) -> None:
    """Shows no row."""


@pytest.fixture
def request_for(small_request: Callable[..., Request]) -> Callable[..., LineRequest]:
    def make(snrs=(None,), shifts=(0.0,), methods=(OURS, ASPIRE), **changes: object) -> LineRequest:
        settings = StackSettings(particles=30, box=32)
        common = small_request(**{"entries": ("molecule-101",), "settings": settings, **changes})
        return LineRequest(common, snrs, shifts, methods)

    return make


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    program = folder / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(program))


def test_images_have_the_noise_and_shifts_that_were_asked_for(request_for: Callable[..., LineRequest]) -> None:
    request = request_for()
    many = replace(request, common=replace(request.common, settings=StackSettings(particles=200, box=32)))
    clean = make_images(many, "molecule-101", 1, 0.0, None)
    noisy = make_images(many, "molecule-101", 1, 0.0, 0.5)
    assert (clean.noise_variance, noisy.noise_variance) == (0.0, 1.0)
    np.testing.assert_array_equal(clean.rotations, noisy.rotations)
    scale = (0.5 / np.mean(clean.images**2)) ** 0.5
    assert float(np.var(noisy.images - scale * clean.images)) == pytest.approx(1, abs=0.02)
    moved = make_images(many, "molecule-101", 1, 2.0, None)
    axis = np.arange(32) - 16

    def centre(images: np.ndarray) -> np.ndarray:
        return (images.sum(axis=1) * axis).sum(axis=1) / images.sum(axis=(1, 2))

    assert float(np.std(centre(moved.images) - centre(clean.images))) == pytest.approx(2, rel=0.2)


def test_ours_and_a_peer_are_judged_alike(
    request_for: Callable[..., LineRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, tmp_path)
    request = request_for(snrs=(None, 2.0))
    results = line_contest(request, shown=nothing)
    rows = {(row["snr"], row["method"]): row for row in results.rows}
    assert set(rows) == {(snr, method) for snr in ("clean", "2") for method in (OURS, ASPIRE)}
    ours, theirs = rows["clean", OURS], rows["clean", ASPIRE]
    assert ours["within_5_deg"] > 0.9
    assert ours["orientation_mean_deg"] < 2
    assert ours["peak_memory_mb"] > 100
    assert 0.5 < ours["confidence"] <= 1
    assert theirs["confidence"] is None
    assert theirs["within_10_deg"] < 0.1
    assert theirs["orientation_mean_deg"] > 30
    assert theirs["note"] == "ASPIRE 9.9"
    assert theirs["pair_ms"] == pytest.approx(2000 * 10 / (30 * 29), rel=1e-3)
    ratio = results.summary["30 images, SNR clean, shift σ 0 px, time a pair, ASPIRE / clarice"]
    assert float(ratio.rstrip("×")) == pytest.approx(theirs["pair_ms"] / ours["pair_ms"], rel=0.02)
    assert (request.common.out / "common-lines.md").is_file()


def test_a_missing_peer_and_symmetric_structures_are_told(
    request_for: Callable[..., LineRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "nowhere/python")
    results = line_contest(request_for(methods=(ASPIRE,), entries=("molecule-101", "molecule-105")), shown=nothing)
    assert [row["entry"] for row in results.rows] == ["molecule-101"]
    assert "not installed" in results.rows[0]["note"]
    assert any("molecule-105" in note for note in results.notes)


def test_a_peer_that_fails_is_a_row_that_says_so(
    request_for: Callable[..., LineRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no module named aspire'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(broken))
    results = line_contest(request_for(methods=(ASPIRE,)), shown=nothing)
    assert "no module named aspire" in results.rows[0]["note"]


@pytest.mark.parametrize(("max_shift_px", "box"), [(0.0, 32), (3.75, 64), (5.0, 48), (4.2, 33)])
def test_aspire_looks_for_the_same_moves_along_lines_as_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, max_shift_px: float, box: int
) -> None:
    """Of images as they are, in single precision."""
    given: dict[str, object] = {}

    class Method:
        """Keeps what it is started with, as ASPIRE's makes of it."""

        clmatrix = np.zeros((3, 3))
        rotations = np.zeros((3, 3, 3))

        def __init__(self, images: np.ndarray, *, max_shift: float, **_: object) -> None:
            given.update(moves=math.ceil(max_shift * images.shape[-1]), dtype=images.dtype)

    names = {"aspire": {"__version__": "9.9"}, "aspire.abinitio": {"CLSyncVoting": Method}}
    names["aspire.source"] = {"ArrayImageSource": lambda images, pixel_size: images}  # noqa: ARG005
    for name, content in names.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))  # type: ignore[arg-type]
    images = np.zeros((3, box, box), dtype=np.float32)
    np.savez(tmp_path / "images.npz", images=images, n_angles=360, max_shift_px=max_shift_px)
    before = logging.root.manager.disable
    try:
        runpy.run_path(str(ASPIRE_DRIVER))["main"](str(tmp_path / "images.npz"), str(tmp_path / "lines.npz"))
    finally:
        logging.disable(before)
    assert given["moves"] == float(LineSettings(20.0, max_shift_px=max_shift_px).moves_px().max())
    assert given["dtype"] == np.float32


def test_aspires_angles_and_rotations_are_read_as_it_means_them(request_for: Callable[..., LineRequest]) -> None:
    if aspire_python() is None:
        pytest.skip(f"ASPIRE is not installed (set {PYTHON_VARIABLE})")
    settings = StackSettings(particles=40, box=48)
    row = line_contest(request_for(methods=(ASPIRE,), settings=settings), shown=nothing).rows[0]
    assert row["within_5_deg"] > 0.9, row.get("note")
    assert row["orientation_mean_deg"] < 5
