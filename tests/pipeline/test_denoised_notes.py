"""What a denoiser tells stands in a STAR file that names rows as the stack's table counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clarice.denoise.notes import Notebook, Sources
from clarice.io.star import read_star
from clarice.pipeline.denoised_notes import rms_error, write_errors, write_notes


def test_rows_count_from_one_and_missing_sources_are_left_out(tmp_path: Path) -> None:
    notes = Notebook(3, sources_wanted=2)
    row = np.array([[1, 2], [0, -1], [-1, -1]])
    weight = np.array([[0.5, 0.25], [0.75, 0], [0, 0]])
    notes.sources(np.arange(3), Sources(row, np.full((3, 2), -90.0), weight, np.array([0.25, 0.25, 1])))
    notes.expected_error(np.array([2, 0, 1]), np.array([[4.0] * 5, [1.0] * 5, [0.25] * 5]))
    write_notes(notes, tmp_path / "notes.star")
    blocks = read_star(tmp_path / "notes.star")
    own, sources = (blocks[name].apply(pd.to_numeric) for name in ("particles", "sources"))
    assert own["clariceRow"].tolist() == [1, 2, 3]
    assert own["clariceExpectedError"].tolist() == [1, 0.5, 2]
    assert sources["clariceRow"].tolist() == [1, 1, 2]
    assert sources["clariceSourceRow"].tolist() == [2, 3, 1]
    assert sources["clariceSourceWeight"].tolist() == [0.5, 0.25, 0.75]
    for number, kept in enumerate(own["clariceKeptWeight"], start=1):
        total = sources.loc[sources["clariceRow"] == number, "clariceSourceWeight"].sum()
        assert total + kept == pytest.approx(1)


def test_errors_stand_row_for_row_and_never_become_infinite(tmp_path: Path) -> None:
    by_shell = np.array([[0.25, 3e-4, 1e9], [4.0, 0.1, 2e-9]])
    write_errors(by_shell, tmp_path / "errors.npy")
    found = np.load(tmp_path / "errors.npy")
    assert found.dtype == np.float16
    assert found[0, 2] == np.finfo(np.float16).max
    assert found[:, :2] == pytest.approx(by_shell[:, :2], rel=0.001)
    assert found[1, 2] == pytest.approx(0, abs=1e-7)
    assert [path.name for path in tmp_path.iterdir()] == ["errors.npy"]


def test_the_error_of_an_image_weighs_shells_by_their_area() -> None:
    rng = np.random.default_rng(0)
    cycles = np.fft.fftfreq(64) * 64
    shell = np.hypot(cycles[:, None], cycles).round().astype(int).clip(max=32)
    power = np.abs(np.fft.fft2(rng.normal(size=(64, 64)), norm="ortho")) ** 2 * np.exp(-shell / 4)
    by_shell = np.array([[power[shell == s].mean() for s in range(33)]])
    assert rms_error(by_shell)[0] == pytest.approx(np.sqrt(power.mean()), rel=0.001)
