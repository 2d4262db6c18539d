"""The FSC files of a run tell nothing about shells that were not measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clarice.geometry.fourier import centred_fft3, centred_ifft3, shell_index
from clarice.io.star import read_star
from clarice.metrics.masks import soft_sphere
from clarice.pipeline.fsc_files import write_fsc

BOX, PIXEL, LAST = 32, 2.0, 9


def cut_halves() -> tuple[np.ndarray, np.ndarray]:
    """Two half maps that agree up to shell LAST and hold nothing beyond."""
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn((BOX,) * 3, generator=generator) * torch.as_tensor(soft_sphere(BOX, 8, 2))
    kept = shell_index(BOX, 3) <= LAST
    halves = []
    for _ in range(2):
        noisy = 20 * signal + 0.1 * torch.randn((BOX,) * 3, generator=generator)
        halves.append(centred_ifft3(torch.where(kept, centred_fft3(noisy), 0)).real.numpy())
    return halves[0], halves[1]


def test_resolution_ends_where_measurement_did(tmp_path: Path) -> None:
    mask = soft_sphere(BOX, 9, 3)
    leaked = write_fsc(tmp_path, cut_halves(), mask, PIXEL, seed=1)
    assert leaked.resolution_angstrom < BOX * PIXEL / (LAST + 1)  # what a mask alone makes of empty shells
    stated = write_fsc(tmp_path, cut_halves(), mask, PIXEL, seed=1, last_shell=LAST)
    assert stated.resolution_angstrom == pytest.approx(BOX * PIXEL / LAST)
    assert stated.words == f"at or beyond {BOX * PIXEL / LAST:.1f} Å, the last shell measured,"
    curves = stated.curves
    record = json.loads((tmp_path / "fsc.json").read_text())
    assert record["last_shell"] == LAST
    np.testing.assert_array_equal(record["curves"]["corrected"], curves.corrected)
    for curve in ("unmasked", "masked", "phase_randomised", "corrected"):
        assert record["curves"][curve][LAST] != 0
        assert set(record["curves"][curve][LAST + 1 :]) == {0.0}
    table = read_star(tmp_path / "fsc.star")["fsc"]
    assert float(table["rlnFourierShellCorrelationCorrected"].iloc[-1]) == pytest.approx(0.0)
