"""Prepared particles: white, bright, in the working box, and the way back to the input's units."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clarice.core.errors import InputError, UsageError
from clarice.core.particles import ArraySource, ParticleSet, Poses
from clarice.denoise.registry import denoise_all, get_denoiser
from clarice.geometry.fourier import fourier_resize
from clarice.metrics.image import image_scores, relative_mse
from clarice.physics.molecules import make_molecule
from clarice.physics.noise import coloured_noise, filter_radially, radial_noise_spectrum, typical_spectrum
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate
from clarice.pipeline.preparation import Preparation
from clarice.pipeline.prepare import Prepared, prepare, prepared_images


@pytest.fixture(scope="module")
def simulated() -> SimulatedSet:
    settings = SimulationSettings(
        particles=300, box=48, seed=3, snr=0.05, max_shift_px=1.0, noise="coloured", pixel_size_angstrom=4.0
    )
    return simulate(make_molecule(5, mass_kda=80), settings)


def as_stored(simulated: SimulatedSet, sign: int, sigma: float, offset: float) -> ParticleSet:
    return replace(simulated.particles, images=ArraySource(sign * sigma * simulated.images + offset))


def noise_only(count: int, box: int, seed: int = 1, scale: float = 1.0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return scale * coloured_noise(count, box, typical_spectrum(box, 3.0), generator).numpy()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("working_box", [48, 32, 31])
def test_the_background_becomes_white_with_mean_0_and_variance_1(
    simulated: SimulatedSet, sign: int, working_box: int
) -> None:
    prepared = prepare(as_stored(simulated, sign, 40.0, 900.0), sign=sign, working_box=working_box)
    images = torch.from_numpy(prepared.particles.read())
    assert images.shape == (300, working_box, working_box)
    spectrum = radial_noise_spectrum(images, 0.75 * working_box / 2)
    assert torch.allclose(spectrum, torch.ones_like(spectrum), atol=0.12)
    assert float(spectrum.mean()) == pytest.approx(1.0, abs=0.04)
    rim = images[:, 0].mean()
    assert abs(float(rim)) < 0.1
    assert prepared.preparation.groups[0].sigma == pytest.approx(40.0, rel=0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_protein_is_bright_whatever_the_input(simulated: SimulatedSet, sign: int) -> None:
    prepared = prepare(as_stored(simulated, sign, 2.0, 0.0), sign=sign)
    noisy = prepared.noisy_set
    images = denoise_all(get_denoiser("covariance-wiener")(noisy), 300, 48)
    assert float(np.mean(image_scores(images, simulated.clean).correlation)) > 0.8
    # In units of the input's noise σ, which is 1 in `clean`; with the true noise spectrum the error is 0.19.
    assert relative_mse(images, simulated.clean) < 0.23


@pytest.mark.parametrize(("box", "working_box"), [(48, 32), (49, 32), (48, 33), (49, 33)])
def test_the_signal_is_what_the_transfer_says(box: int, working_box: int) -> None:
    """With and without an object, the same preparation differs by W crop(x / σ), in even and odd boxes."""
    axis = torch.arange(box) - box // 2
    blob = torch.exp(-((axis[:, None] - 2.0) ** 2 + (axis[None, :] + 1.0) ** 2) / 12)
    noise = torch.from_numpy(noise_only(40, box))
    plain = ParticleSet(ArraySource(noise.numpy()), 4.0)
    preparation = prepare(plain, sign=-1, working_box=working_box).preparation
    with_object = replace(plain, images=ArraySource((noise - blob).numpy()))
    images = [torch.cat(list(prepared_images(item, preparation))) for item in (with_object, plain)]
    resized = fourier_resize(blob[None] / preparation.groups[0].sigma, working_box, 2)
    expected = filter_radially(resized, torch.from_numpy(preparation.whitening()[0]).float())
    assert preparation.ctf_state == "none"
    assert torch.allclose(images[0] - images[1], expected.expand(40, -1, -1), atol=2e-3 * float(expected.max()))


def test_poses_pixel_size_and_rows_move_to_the_working_box(simulated: SimulatedSet) -> None:
    poses = Poses(np.tile(np.eye(3), (300, 1, 1)), np.full((300, 2), 3.0))
    particles = replace(simulated.particles, poses=poses)
    prepared = prepare(particles, sign=1, working_box=32)
    assert prepared.particles.pixel_size_angstrom == pytest.approx(6.0)
    assert prepared.particles.poses is not None
    assert np.allclose(prepared.particles.poses.shifts_px, 2.0)
    assert prepared.particles.optics is particles.optics


def test_restored_images_have_the_inputs_box_and_sign(simulated: SimulatedSet) -> None:
    preparation = prepare(as_stored(simulated, -1, 5.0, 3.0), sign=-1, working_box=32).preparation
    small = fourier_resize(torch.from_numpy(simulated.clean[:2]), 32, 2)
    restored = preparation.restore(small.numpy())
    assert restored.shape == (2, 48, 48)
    assert np.allclose(restored, -fourier_resize(small, 48, 2).numpy(), atol=1e-4)


def test_images_in_a_file_are_those_in_memory(simulated: SimulatedSet, tmp_path: Path) -> None:
    held = prepare(simulated.particles, sign=1, working_box=32)
    written = prepare(simulated.particles, sign=1, working_box=32, images_path=tmp_path / "prepared.mrcs")
    assert np.array_equal(held.particles.read(), written.particles.read())
    assert held.preparation == written.preparation


def test_the_record_survives_json_and_gives_the_same_images(simulated: SimulatedSet) -> None:
    prepared = prepare(simulated.particles, sign=1)
    record = json.loads(json.dumps(prepared.preparation.as_record()))
    again = Preparation.from_record(record)
    assert again == prepared.preparation
    assert record["noise_spectrum"] == list(prepared.preparation.groups[0].spectrum)
    images = torch.cat(list(prepared_images(simulated.particles, again)))
    assert np.array_equal(images.numpy(), prepared.particles.read())
    with pytest.raises(InputError, match="prepare the stack again"):
        Preparation.from_record({"sign": 1})


def test_optics_groups_of_unlike_noise_are_measured_apart() -> None:
    images = np.concatenate([noise_only(250, 32, 1, 2.0), noise_only(250, 32, 2, 10.0), noise_only(20, 32, 3)])
    labels = np.repeat([4, 7, 9], [250, 250, 20]).astype(np.int32)
    prepared = prepare(ParticleSet(ArraySource(images), 3.0, optics_group=labels), sign=1)
    groups = {group.optics_group: group.sigma for group in prepared.preparation.groups}
    assert set(groups) == {None, 4, 7}
    assert groups[7] == pytest.approx(5 * groups[4], rel=0.05)
    for rows in (slice(0, 250), slice(250, 500)):
        assert float(prepared.particles.read()[rows].std()) == pytest.approx(1.0, abs=0.05)
    assert np.array_equal(prepared.noisy_set.noise_group, np.repeat([1, 2, 0], [250, 250, 20]))


def test_grey_scales_that_differ_by_image_are_evened_out() -> None:
    scales = np.random.default_rng(1).uniform(0.5, 3, 200).astype(np.float32)[:, None, None]
    prepared = prepare(ParticleSet(ArraySource(noise_only(200, 32) * scales), 3.0), sign=1)
    assert prepared.preparation.per_image_scale
    spread = prepared.particles.read().std(axis=(1, 2))
    assert float(spread.std()) < 0.1


def test_multiplication_by_the_ctf_is_undone(simulated: SimulatedSet) -> None:
    particles = simulated.particles
    noisy = prepare(particles, sign=1).noisy_set
    rows = np.arange(len(particles))
    multiplied = torch.fft.rfft2(torch.from_numpy(simulated.images)) * noisy.ctf_of(rows)
    images = torch.fft.irfft2(multiplied, s=(48, 48)).numpy()
    other: Prepared = prepare(replace(particles, images=ArraySource(images)), sign=1, ctf_state="multiplied")
    straight, undone = prepare(particles, sign=1).particles.read(), other.particles.read()
    assert float(np.mean(image_scores(undone, straight).correlation)) > 0.95
    assert not other.noisy_set.phase_flipped


def test_flipped_phases_are_remembered(simulated: SimulatedSet) -> None:
    assert prepare(simulated.particles, sign=1, ctf_state="flipped").noisy_set.phase_flipped


def test_what_cannot_be_prepared_is_refused_in_words(simulated: SimulatedSet) -> None:
    particles = simulated.particles
    flat = replace(particles, images=ArraySource(np.ones((300, 48, 48), dtype=np.float32)))
    broken = simulated.images.copy()
    broken[17, 3, 4] = np.nan
    with pytest.raises(InputError, match="flat"):
        prepare(flat, sign=1)
    with pytest.raises(InputError, match="particle 18"):
        prepare(replace(particles, images=ArraySource(broken)), sign=1)
    with pytest.raises(UsageError, match="--working-box 64"):
        prepare(particles, sign=1, working_box=64)
    with pytest.raises(UsageError, match="radius"):
        prepare(particles, sign=1, background_radius_px=24)
    with pytest.raises(UsageError, match="sign"):
        prepare(particles, sign=0)
    with pytest.raises(InputError, match="no particles"):
        prepare(particles.subset(np.empty(0, dtype=np.int64)), sign=1)
