"""SNR by defocus, against sets whose signal is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from clarice.core.particles import ArraySource, Poses
from clarice.geometry.fourier import centred_fft2, shell_index
from clarice.physics.image_formation import through_ctf
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate
from clarice.pipeline.defocus_snr import FEWEST_PARTICLES, FIRST_SHELL, MOST_GROUPS, groups_of_defocus, measured_snr

PARTICLES, BOX = 600, 32
CERTAIN = 4.0


@pytest.fixture(scope="module")
def made() -> SimulatedSet:
    """600 noiseless particles at two values of defocus."""
    settings = SimulationSettings(
        particles=PARTICLES, box=BOX, seed=5, noise="none", snr=1.0, defocus_groups=2, astigmatic=False
    )
    return simulate(make_molecule(4, mass_kda=150), settings)


def defocus(made: SimulatedSet) -> np.ndarray:
    assert made.particles.optics is not None
    return made.particles.optics.defocus_u_angstrom


def signals(made: SimulatedSet, faint: float = 1.0) -> torch.Tensor:
    """Images of the model, the particles of the greater defocus times `faint`, of mean square 0.1 at the other."""
    optics = made.particles.optics
    assert optics is not None
    spectra = torch.fft.rfft2(torch.from_numpy(made.clean))
    images = through_ctf(spectra, optics, BOX, made.particles.pixel_size_angstrom)
    great = torch.from_numpy(defocus(made) == defocus(made).max())
    images = images * torch.where(great, faint, 1.0)[:, None, None]
    return images * (0.1 / images[~great].square().mean()).sqrt()


def noisy(made: SimulatedSet, images: torch.Tensor, seed: int = 1) -> NoisySet:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return white_set(replace(made.particles, images=ArraySource((images + noise).numpy())))


def true_snr(images: torch.Tensor, finest_shell: int) -> float:
    """Signal's power over that of white noise of variance 1, coefficient by coefficient of the band."""
    shells = shell_index(BOX, 2)
    inside = (shells >= FIRST_SHELL) & (shells <= finest_shell)
    return float(centred_fft2(images)[:, inside].abs().square().mean()) / BOX**2


def test_two_groups_have_their_own_snr(made: SimulatedSet) -> None:
    images = signals(made, faint=0.5)
    volume = torch.from_numpy(made.volume)[None]
    found = measured_snr(noisy(made, images), made.poses, volume, np.zeros(PARTICLES, dtype=np.int64))
    last = round(BOX * made.particles.pixel_size_angstrom / found.finest_angstrom)
    assert [group.least_angstrom for group in found.groups] == pytest.approx(np.unique(defocus(made)).tolist())
    for group, value in zip(found.groups, np.unique(defocus(made)), strict=True):
        truth = true_snr(images[torch.from_numpy(defocus(made) == value)], last)
        assert 0 < group.snr.error < 0.1 * truth
        # Slices read by interpolation are off by about 1 % of an image's norm.
        assert abs(group.snr.value - truth) < CERTAIN * group.snr.error + 0.02 * truth
    near, far = found.groups
    assert far.snr.scale / near.snr.scale == pytest.approx(0.5, abs=CERTAIN * (far.snr.scale_error / near.snr.scale))


def test_the_error_is_how_much_it_varies_over_noise(made: SimulatedSet) -> None:
    images, volume = signals(made), torch.from_numpy(made.volume)[None]
    which = np.zeros(PARTICLES, dtype=np.int64)
    found = [measured_snr(noisy(made, images, seed), made.poses, volume, which).whole for seed in range(12)]
    # Images that are not all alike vary as well, which draws of noise do not show.
    spread, stated = np.std([one.value for one in found], ddof=1), np.mean([one.error for one in found])
    assert 0.3 * stated < spread < 1.5 * stated


def test_noise_has_no_signal(made: SimulatedSet) -> None:
    images, volume = torch.zeros(PARTICLES, BOX, BOX), torch.from_numpy(made.volume)[None]
    found = measured_snr(noisy(made, images), made.poses, volume, np.zeros(PARTICLES, dtype=np.int64))
    assert found.whole.value < 1e-3
    assert abs(found.whole.scale) < CERTAIN * found.whole.scale_error


def test_each_particle_is_compared_with_the_map_it_is_told(made: SimulatedSet) -> None:
    maps = torch.stack([torch.from_numpy(made.volume), torch.zeros(BOX, BOX, BOX)])
    which = np.zeros(PARTICLES, dtype=np.int64)
    particles = noisy(made, signals(made))
    assert measured_snr(particles, made.poses, maps, which).whole.value > 0.01
    assert measured_snr(particles, made.poses, maps, which + 1).whole.value == 0.0


def test_wrong_poses_show_less_signal(made: SimulatedSet) -> None:
    volume, which = torch.from_numpy(made.volume)[None], np.zeros(PARTICLES, dtype=np.int64)
    particles = noisy(made, signals(made))
    wrong = Poses(np.roll(made.poses.rotations, 1, axis=0), made.poses.shifts_px)
    right = measured_snr(particles, made.poses, volume, which)
    assert measured_snr(particles, wrong, volume, which).fine_end.value < 0.5 * right.fine_end.value


def test_without_ctf_there_are_no_groups(made: SimulatedSet) -> None:
    particles = noisy(made, torch.from_numpy(made.clean))
    bare = replace(particles, particles=replace(particles.particles, optics=None))
    found = measured_snr(bare, made.poses, torch.from_numpy(made.volume)[None], np.zeros(PARTICLES, dtype=np.int64))
    assert found.groups == ()
    assert found.whole.value > 0


def test_groups_are_ranges_of_defocus() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(5e3, 3e4, 5000)
    groups = groups_of_defocus(values)
    assert len(groups) == MOST_GROUPS
    assert np.array_equal(np.sort(np.concatenate(groups)), np.arange(5000))
    assert all(values[low].max() < values[high].min() for low, high in pairwise(groups))
    assert max(map(len, groups)) < 1.1 * min(map(len, groups))
    few = groups_of_defocus(np.repeat([2e4, 1e4, 3e4], [FEWEST_PARTICLES, 500, FEWEST_PARTICLES]))
    assert [len(group) for group in few] == [500, FEWEST_PARTICLES, FEWEST_PARTICLES]
    assert [len(group) for group in groups_of_defocus(values[:30])] == [30]
