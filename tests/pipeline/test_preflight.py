"""The check's evidence on stacks whose truth is known, and its words on stacks that cannot be used."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clarice.core.particles import ArraySource, Optics, ParticleSet
from clarice.geometry.fourier import centred_fft2, centred_ifft2
from clarice.io.mrc import write_mrc
from clarice.io.mrc_header import make_header
from clarice.io.stack import open_particles
from clarice.physics.ctf import ctf
from clarice.pipeline.preflight import check, check_file
from clarice.pipeline.preflight.pixels import PixelScan, z_scores

PIXEL_SIZE = 3.0


def made_optics(count: int) -> Optics:
    generator = np.random.default_rng(5)
    defocus = generator.uniform(1e4, 2.5e4, count)
    full = [np.full(count, value) for value in (300.0, 2.7, 0.1)]
    return Optics(*full, defocus, defocus - 300, generator.uniform(-90, 90, count), np.zeros(count), np.zeros(count))


def made_set(state: str = "raw", sign: int = 1, count: int = 300, box: int = 48, noise: float = 1.0) -> ParticleSet:
    """Blobs of random arrangement near the centre, with CTF and white noise, treated as `state` says."""
    generator = np.random.default_rng(7)
    offsets = np.arange(box) - box // 2
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    images = np.zeros((count, box, box), dtype=np.float32)
    for image in images:
        for centre_x, centre_y in generator.normal(scale=box / 14, size=(12, 2)):
            image += np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * 1.2**2))
    optics = made_optics(count)
    transfer = ctf(optics, box, PIXEL_SIZE)
    spectra = centred_fft2(torch.from_numpy(images)) * transfer
    seen = centred_ifft2(spectra).real.numpy()
    seen = sign * seen / seen.std() * 0.45 + noise * generator.normal(size=seen.shape)
    treatment = {"raw": torch.ones_like(transfer), "flipped": torch.sign(transfer), "multiplied": transfer}[state]
    treated = centred_ifft2(centred_fft2(torch.from_numpy(seen)) * treatment).real
    return ParticleSet(ArraySource(treated.float().numpy()), PIXEL_SIZE, optics=optics)


@pytest.mark.parametrize("state", ["raw", "flipped", "multiplied"])
@pytest.mark.parametrize("sign", [1, -1])
def test_contrast_and_ctf_state_are_found(state: str, sign: int) -> None:
    verdict = check(made_set(state, sign))
    assert verdict.contrast is not None
    assert verdict.ctf is not None
    assert verdict.contrast.sign == ("bright" if sign > 0 else "dark")
    assert verdict.contrast.basis == "images"
    assert verdict.sign == sign
    assert (verdict.ctf.state, verdict.ctf.basis) == (state, "images")
    assert verdict.contrast.low_frequency_z is not None
    assert np.sign(verdict.contrast.low_frequency_z) == sign
    assert verdict.usable


def test_odd_box_gives_the_same_verdict() -> None:
    verdict = check(made_set("flipped", -1, box=49))
    assert verdict.contrast is not None
    assert verdict.ctf is not None
    assert (verdict.contrast.sign, verdict.ctf.state) == ("dark", "flipped")


def test_pure_noise_is_ambiguous_and_says_what_to_pass() -> None:
    particles = made_set()
    noise = np.random.default_rng(0).normal(size=(300, 48, 48)).astype(np.float32)
    blind = dataclasses.replace(particles, images=ArraySource(noise))
    verdict = check(blind)
    assert verdict.contrast is not None
    assert verdict.ctf is not None
    assert verdict.contrast.sign == "ambiguous"
    assert not verdict.usable
    assert verdict.kind == "needs an option"
    assert "--contrast bright or --contrast dark" in verdict.needs[0]
    assert (verdict.ctf.state, verdict.ctf.basis) == ("raw", "assumed")
    assert any("--ctf-state" in warning for warning in verdict.warnings)
    with pytest.raises(ValueError, match="not known"):
        _ = verdict.sign
    settled = check(blind, contrast="dark", ctf_state="flipped")
    assert settled.usable
    assert settled.sign == -1
    assert settled.ctf is not None
    assert (settled.ctf.state, settled.ctf.basis) == ("flipped", "option")


def test_noise_free_raw_images_are_not_taken_for_multiplied_ones() -> None:
    verdict = check(made_set("raw", noise=0.0))
    assert verdict.ctf is not None
    assert verdict.ctf.state == "raw"


def test_an_option_against_the_evidence_is_told() -> None:
    verdict = check(made_set("raw", 1), contrast="dark")
    assert verdict.sign == -1
    assert any("the images show protein bright" in warning for warning in verdict.warnings)


def test_damage_is_counted_and_named() -> None:
    particles = made_set()
    images = particles.read().copy()
    images[4] = 3.0
    images[7, 2, 2] = np.nan
    images[9, 0, 0] = np.inf
    images[20] = images[11]
    verdict = check(dataclasses.replace(particles, images=ArraySource(images)))
    found = verdict.images
    assert found is not None
    assert (found.constant_rows, found.not_finite_rows) == ((5,), (8, 10))
    assert found.duplicate_rows == ((12, 21),)
    assert not verdict.usable
    assert any("rows 8, 10" in problem for problem in verdict.problems)
    assert any("row 21 of row 12" in warning for warning in verdict.warnings)
    assert verdict.contrast is not None
    assert verdict.contrast.sign == "bright"
    json.dumps(verdict.as_json(), allow_nan=False)


def test_normalisation_is_told() -> None:
    particles = made_set()
    shifted = dataclasses.replace(particles, images=ArraySource(particles.read() * 40 + 1000))
    verdict = check(shifted)
    assert verdict.images is not None
    assert not verdict.images.normalised
    assert verdict.images.background_mean == pytest.approx(1000, rel=0.01)
    assert any("not normalised" in warning for warning in verdict.warnings)
    normal = check(particles).images
    assert normal is not None
    assert normal.normalised


def test_without_ctf_the_images_are_taken_as_they_are() -> None:
    verdict = check(dataclasses.replace(made_set(), optics=None))
    assert verdict.ctf is not None
    assert verdict.ctf.state == "none"
    assert verdict.usable
    assert any("no CTF is known" in warning for warning in verdict.warnings)


def test_disk_means_agree_with_a_plain_loop() -> None:
    images = np.random.default_rng(1).normal(size=(3, 9, 9)).astype(np.float32)
    scan = PixelScan(9)
    scan.add(np.arange(3), images, np.ones(3, dtype=bool))
    from clarice.pipeline.preflight.pixels import DISK_SHARES

    for row, image in enumerate(images):
        for disk, share in enumerate(DISK_SHARES):
            inside = [image[y, x] for y in range(9) for x in range(9) if np.hypot(y - 4, x - 4) < share * 9]
            outside = [image[y, x] for y in range(9) for x in range(9) if np.hypot(y - 4, x - 4) >= share * 9]
            expected = np.mean(inside) - np.mean(outside)
            assert scan.disk_contrasts()[row, disk] == pytest.approx(expected, abs=1e-5)


def test_z_scores_follow_the_normal_law() -> None:
    generator = np.random.default_rng(3)
    for count in (4, 50):
        scores = z_scores(generator.normal(size=(count, 4000)))
        assert np.std(scores) == pytest.approx(1, abs=0.05)
        assert np.mean(np.abs(scores) > 3) < 0.008
    assert z_scores(np.ones((1, 2))).tolist() == [0, 0]


def write_table(folder: Path, columns: dict[str, str]) -> Path:
    images = made_set(count=60).read()
    write_mrc(folder / "i.mrcs", images, PIXEL_SIZE)
    lines = [" ".join([f"{row + 1}@i.mrcs", *columns.values()]) for row in range(60)]
    labels = "".join(f"_{name}\n" for name in ("rlnImageName", *columns))
    (folder / "p.star").write_text(f"data_particles\nloop_\n{labels}" + "\n".join(lines) + "\n")
    return folder / "p.star"


def test_incomplete_ctf_columns_stop_the_check(tmp_path: Path) -> None:
    path = write_table(tmp_path, {"rlnImagePixelSize": "3.0", "rlnDefocusU": "15000", "rlnDefocusV": "15000"})
    verdict = check_file(path)
    assert not verdict.usable
    assert "_rlnVoltage" in verdict.problems[0]
    assert verdict.kind == "broken"


@pytest.mark.parametrize(
    ("column", "value"),
    [("rlnVoltage", "0"), ("rlnAmplitudeContrast", "7"), ("rlnDefocusU", "1e20"), ("rlnSphericalAberration", "1e9")],
)
def test_impossible_ctf_values_stop_the_check(tmp_path: Path, column: str, value: str) -> None:
    columns = {
        "rlnImagePixelSize": "3.0",
        "rlnDefocusU": "15000",
        "rlnDefocusV": "15000",
        "rlnDefocusAngle": "0",
        "rlnVoltage": "300",
        "rlnSphericalAberration": "2.7",
        "rlnAmplitudeContrast": "0.1",
        column: value,
    }
    verdict = check_file(write_table(tmp_path, columns))
    assert not verdict.usable
    assert "row 1" in verdict.problems[0]


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=600, max_size=600))
def test_any_pixels_get_a_verdict(pixels: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.mrcs"
        path.write_bytes(make_header((6, 5, 5), 2, 1.5, False, (0, 0, 0, 0), "") + pixels)
        json.dumps(check_file(path).as_json(), allow_nan=False)


def test_header_columns_state_the_ctf(tmp_path: Path) -> None:
    columns = {
        "rlnImagePixelSize": "3.0",
        "rlnDefocusU": "100",
        "rlnDefocusV": "100",
        "rlnDefocusAngle": "0",
        "rlnVoltage": "300",
        "rlnSphericalAberration": "2.7",
        "rlnAmplitudeContrast": "0.1",
        "rlnCtfDataArePhaseFlipped": "1",
    }
    verdict = check_file(write_table(tmp_path, columns))
    assert verdict.ctf is not None
    assert (verdict.ctf.state, verdict.ctf.basis, verdict.ctf.stated) == ("flipped", "file", "flipped")
    assert any("nm or µm" in warning for warning in verdict.warnings)


def test_repeated_rows_and_one_sided_halves_are_told(tmp_path: Path) -> None:
    path = write_table(tmp_path, {"rlnImagePixelSize": "3.0", "rlnRandomSubset": "1"})
    path.write_text(path.read_text() + "7@i.mrcs 3.0 1\n")
    verdict = check_file(path)
    assert verdict.half_sets == (61, 0)
    assert any("1 row repeats an image" in warning for warning in verdict.warnings)
    assert any("halves will be assigned anew" in warning for warning in verdict.warnings)
    assert any("a map takes 100 at least" in warning for warning in verdict.warnings)


def test_apoferritin_is_dark_and_raw(shared_data: Path) -> None:
    verdict = check_file(shared_data / "particles/apoferritin/particles.star")
    assert verdict.usable
    assert verdict.contrast is not None
    assert verdict.ctf is not None
    assert (verdict.contrast.sign, verdict.contrast.basis) == ("dark", "images")
    assert (verdict.ctf.state, verdict.ctf.basis) == ("raw", "images")
    assert (verdict.particles, verdict.micrographs, verdict.problems) == (1620, 12, ())


@pytest.mark.parametrize("state", ["flipped", "multiplied"])
def test_treated_apoferritin_is_seen_through(shared_data: Path, state: str) -> None:
    particles = open_particles(shared_data / "particles/apoferritin/particles.star").subset(np.arange(0, 1620, 4))
    assert particles.optics is not None
    transfer = ctf(particles.optics, 64, 3.0)
    transfer = torch.sign(transfer) if state == "flipped" else transfer
    images = centred_ifft2(centred_fft2(torch.from_numpy(particles.read())) * transfer).real.float().numpy()
    verdict = check(dataclasses.replace(particles, images=ArraySource(images)))
    assert verdict.ctf is not None
    assert (verdict.ctf.state, verdict.ctf.basis) == (state, "images")
    assert verdict.contrast is not None
    assert verdict.contrast.sign != "bright"
    assert verdict.contrast.disk_z < -20


def test_a_microscope_without_any_defocus_is_no_ctf(tmp_path: Path) -> None:
    """As in tables of stacks whose CTF was never estimated, or whose images are free of it."""
    columns = {"rlnImagePixelSize": "3.0", "rlnVoltage": "300", "rlnSphericalAberration": "2.7"}
    verdict = check_file(write_table(tmp_path, {**columns, "rlnAmplitudeContrast": "0.1"}))
    assert verdict.problems == ()
    assert verdict.ctf is not None
    assert verdict.ctf.state == "none"
    assert any("no CTF is known" in warning for warning in verdict.warnings)
