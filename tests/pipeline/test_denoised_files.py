"""Denoised images read back from their files as they were, whatever the input's box and sign."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clarice.core.particles import ArraySource
from clarice.denoise.registry import get_denoiser
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline import denoised_files
from clarice.pipeline.denoised_files import IMAGES, RECORD, TABLE, DenoisedFiles, denoise_some, write_denoised
from clarice.pipeline.denoised_notes import ERRORS, NOTES
from clarice.pipeline.prepare import Prepared, prepare

COUNT, BOX, WORKING_BOX = 30, 32, 24


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    """Dark particles in a box larger than the one that is worked in; the folder of their denoised files."""
    folder = tmp_path_factory.mktemp("denoised")
    made = simulate(make_molecule(1, mass_kda=150), SimulationSettings(COUNT, BOX, seed=3, snr=0.5, defocus_groups=3))
    dark = replace(made.particles, images=ArraySource(-3 * made.images))
    ready = prepare(dark, sign=-1, working_box=WORKING_BOX)
    write_mrc(folder / "raw.mrcs", dark.read(), dark.pixel_size_angstrom, is_volume=False)
    write_particles(dark, folder / "raw.star", images_path=folder / "raw.mrcs")
    write_denoised(open_particles(folder / "raw.star"), ready, get_denoiser("covariance-wiener"), folder)
    return folder, ready


def below_nyquist(images: Tensor) -> Tensor:
    half = WORKING_BOX // 2
    spectrum = torch.fft.rfft2(images)[..., :half]
    return spectrum[:, torch.arange(WORKING_BOX) != half]


def test_images_come_back_as_they_were(prepared: tuple[Path, Prepared], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in any order, a few at a time; a wider box has no place of its own for the Nyquist frequency alone."""
    folder, ready = prepared
    monkeypatch.setattr(denoised_files, "_RESTORED_PIXELS", 7 * BOX**2)
    expected = denoise_some(ready.noisy_set, get_denoiser("covariance-wiener")).images
    rows = np.array([29, 3, 4, 0, 17, 11, 12, 13, 2])
    found = DenoisedFiles.of(folder / IMAGES, json.loads((folder / RECORD).read_text())).read(rows)
    assert found.images.shape == (len(rows), WORKING_BOX, WORKING_BOX)
    back, before = (below_nyquist(images) for images in (found.images, expected[rows]))
    torch.testing.assert_close(back, before, rtol=0, atol=1e-5 * float(before.abs().max()))
    assert found.error_by_shell is None


def test_the_files_are_the_same_whenever_they_are_made(
    prepared: tuple[Path, Prepared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all stages that read them would be run again because of the time they took."""
    folder, ready = prepared
    clock = iter((5.0, 1234.5))
    monkeypatch.setattr(denoised_files.time, "monotonic", lambda: next(clock))
    seconds = write_denoised(open_particles(folder / "raw.star"), ready, get_denoiser("covariance-wiener"), tmp_path)
    assert seconds == 1229.5
    assert (tmp_path / RECORD).read_bytes() == (folder / RECORD).read_bytes()


def test_what_a_method_told_of_other_images_is_removed(prepared: tuple[Path, Prepared], tmp_path: Path) -> None:
    folder, ready = prepared
    for name in (NOTES, ERRORS):
        (tmp_path / name).write_bytes(b"of other images, made before")
    write_denoised(open_particles(folder / "raw.star"), ready, get_denoiser("covariance-wiener"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {IMAGES, TABLE, RECORD}


def test_the_expected_error_is_on_record_where_there_is_one(prepared: tuple[Path, Prepared]) -> None:
    folder, _ = prepared
    record = json.loads((folder / RECORD).read_text())
    changed = {**record, "expected_error_by_shell": [0.5, 0.25]}
    error = DenoisedFiles.of(folder / IMAGES, changed).read(np.arange(2)).error_by_shell
    assert error is not None
    assert error.tolist() == [0.5, 0.25]
    del record["expected_error_by_shell"]  # as older versions wrote it
    assert DenoisedFiles.of(folder / IMAGES, record).read(np.arange(2)).error_by_shell is None
