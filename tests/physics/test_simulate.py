"""Simulated sets: image formation, SNR, noise, and truth that fits the images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clarice.core.errors import UsageError
from clarice.core.particles import Poses
from clarice.geometry.slices import project
from clarice.physics.atoms import Atoms
from clarice.physics.ctf import ctf_at, rfft_frequency_grid
from clarice.physics.defocus import unit_optics
from clarice.physics.image_formation import form_images
from clarice.physics.potential import atoms_to_volume
from clarice.physics.simulate import (
    MapPotential,
    SimulationSettings,
    default_pixel_size,
    draw_optics,
    draw_poses,
    simulate,
)


def make_atoms(count: int = 150) -> Atoms:
    rng = np.random.default_rng(6)
    return Atoms.of(rng.uniform(-25, 25, (count, 3)), rng.choice([6, 7, 8], count), np.full(count, 600.0)).centred()


SETTINGS = SimulationSettings(particles=24, box=32, seed=5, snr=0.2, max_shift_px=2.0)


@pytest.mark.parametrize("box", [32, 33])
def test_clean_images_are_shifted_projections_of_the_volume(box: int) -> None:
    simulated = simulate(make_atoms(), replace(SETTINGS, box=box))
    projections = project(torch.from_numpy(simulated.volume), simulated.poses.rotations)
    optics = unit_optics(24, 300.0)
    shifted, same = form_images(projections, simulated.poses, optics, box, 3.0)
    torch.testing.assert_close(shifted, same, atol=1e-4, rtol=0)
    error = np.linalg.norm(shifted.numpy() - simulated.clean) / np.linalg.norm(simulated.clean)
    assert error < 0.02


@pytest.mark.parametrize("box", [32, 33])
def test_content_moves_against_the_centring_shift(box: int) -> None:
    atom = Atoms.of(np.zeros((1, 3)), np.array([6]), np.array([300.0]))
    poses = Poses(np.eye(3)[None], np.array([[3.0, -5.0]]))
    images = project(atoms_to_volume(atom, box, 2.0), poses.rotations)
    moved, _ = form_images(images, poses, unit_optics(1, 300.0), box, 2.0)
    y, x = np.unravel_index(int(moved[0].argmax()), (box, box))
    assert (int(x) - box // 2, int(y) - box // 2) == (-3, 5)


def test_the_ctf_is_applied_at_twice_the_box_and_cropped() -> None:
    simulated = simulate(make_atoms(), replace(SETTINGS, noise="none", max_shift_px=0.0))
    pixel_size = simulated.particles.pixel_size_angstrom
    wide = project(atoms_to_volume(make_atoms(), 64, pixel_size), simulated.poses.rotations)
    optics = simulated.particles.optics
    assert optics is not None
    fy, fx = rfft_frequency_grid(64)
    transfer = ctf_at(optics, fx / pixel_size, fy / pixel_size)
    signal = torch.fft.irfft2(torch.fft.rfft2(wide) * transfer, s=(64, 64))[:, 16:48, 16:48] * simulated.scale
    error = np.linalg.norm(signal.numpy() - simulated.images) / np.linalg.norm(simulated.images)
    assert error < 0.02


@pytest.mark.parametrize("noise", ["white", "coloured"])
def test_snr_is_signal_power_over_noise_variance(noise: str) -> None:
    settings = replace(SETTINGS, particles=100, noise=noise)
    noiseless = simulate(make_atoms(), replace(settings, noise="none"))
    assert float(np.mean(noiseless.images.astype(float) ** 2)) == pytest.approx(0.2, rel=1e-4)
    residual = simulate(make_atoms(), settings).images - noiseless.images
    assert float(residual.var()) == pytest.approx(1.0, rel=0.03)
    ratio = np.mean(noiseless.images.astype(float) ** 2) / residual.var()
    assert ratio == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("ctf", [True, False])
def test_poisson_noise_has_variance_one_and_the_stated_snr(ctf: bool) -> None:
    """Without a CTF the signal's mean makes more electrons, and so more noise."""
    settings = replace(SETTINGS, particles=100, snr=0.2, noise="poisson", ctf=ctf)
    noiseless = simulate(make_atoms(), replace(settings, noise="none"))
    counted = simulate(make_atoms(), settings)
    levels = np.unique(counted.images)
    steps = np.diff(levels)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)  # whole electrons
    assert levels[0] == pytest.approx(-steps[0], rel=1e-4)  # none at all
    assert (steps[0] < 0.99) is not ctf
    residual = counted.images - noiseless.images
    assert float(residual.var()) == pytest.approx(1, rel=0.03)
    assert abs(float(residual.mean())) < 0.01
    assert float(np.mean(noiseless.images.astype(float) ** 2)) == pytest.approx(0.2, rel=1e-3)
    np.testing.assert_allclose(counted.clean, noiseless.clean, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_set_and_another_seed_another() -> None:
    first, second = simulate(make_atoms(), SETTINGS), simulate(make_atoms(), SETTINGS)
    np.testing.assert_array_equal(first.images, second.images)
    other = simulate(make_atoms(), replace(SETTINGS, seed=6))
    assert not np.allclose(first.poses.rotations, other.poses.rotations)


def test_other_settings_leave_the_poses_and_defoci_as_they_were() -> None:
    poses = draw_poses(SETTINGS)
    np.testing.assert_array_equal(poses.rotations, draw_poses(replace(SETTINGS, snr=1.0, noise="poisson")).rotations)
    optics, _ = draw_optics(SETTINGS)
    again, _ = draw_optics(replace(SETTINGS, max_shift_px=0.0))
    np.testing.assert_array_equal(optics.defocus_u_angstrom, again.defocus_u_angstrom)


def test_the_particle_set_tells_no_truth() -> None:
    particles = simulate(make_atoms(), SETTINGS).particles
    assert particles.poses is None
    assert particles.half_set is None
    assert particles.micrograph is not None
    assert len(np.unique(particles.micrograph)) == 24


def test_shifts_stay_within_their_range() -> None:
    shifts = draw_poses(replace(SETTINGS, particles=2000)).shifts_px
    assert np.abs(shifts).max() <= 2.0
    assert shifts.std() == pytest.approx(2 / np.sqrt(3), rel=0.05)


def test_the_default_pixel_size_fills_65_percent_of_the_box() -> None:
    atoms = make_atoms()
    assert default_pixel_size(atoms, 40) == pytest.approx(atoms.diameter_angstrom() / 26)
    with pytest.raises(UsageError, match="--pixel-size"):
        default_pixel_size(Atoms.of(np.zeros((1, 3)), np.array([6]), np.zeros(1)), 40)


def test_a_map_gives_the_images_of_its_atoms() -> None:
    atoms = make_atoms()
    settings = replace(SETTINGS, noise="none", pixel_size_angstrom=3.0)
    expected = simulate(atoms, settings)
    from_map = simulate(MapPotential(atoms_to_volume(atoms, 48, 2.0), 2.0), settings)
    correlation = np.corrcoef(expected.images.ravel(), from_map.images.ravel())[0, 1]
    assert correlation > 0.999
    assert default_pixel_size(MapPotential(torch.zeros(48, 48, 48), 2.0), 32) == pytest.approx(3.0)


def test_without_ctf_the_images_are_the_clean_ones() -> None:
    simulated = simulate(make_atoms(), replace(SETTINGS, ctf=False, noise="none"))
    np.testing.assert_allclose(simulated.images, simulated.clean, atol=1e-4)


def test_images_kept_in_files_are_the_same(tmp_path: Path) -> None:
    in_memory, on_disk = simulate(make_atoms(), SETTINGS), simulate(make_atoms(), SETTINGS, folder=tmp_path)
    np.testing.assert_array_equal(in_memory.images, on_disk.images)
    np.testing.assert_array_equal(in_memory.clean, on_disk.clean)
    assert (tmp_path / "images.npy").stat().st_size > on_disk.images.nbytes


def test_given_poses_replace_the_drawn_ones() -> None:
    poses = Poses(np.repeat(np.eye(3)[None], 24, axis=0), np.zeros((24, 2)))
    simulated = simulate(make_atoms(), replace(SETTINGS, noise="none", ctf=False), poses=poses)
    np.testing.assert_allclose(simulated.clean[3], simulated.clean[17], atol=1e-5)
    with pytest.raises(UsageError, match="one a particle"):
        simulate(make_atoms(), replace(SETTINGS, particles=5), poses=poses)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("particles", 0),
        ("box", 4),
        ("snr", 0.0),
        ("snr", float("nan")),
        ("max_shift_px", -1.0),
        ("pixel_size_angstrom", -2.0),
        ("defocus_groups", 0),
        ("amplitude_contrast", 1.5),
        ("voltage_kv", 0.0),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError, match="must"):
        replace(SETTINGS, **{field: value})
