"""Stacks that show nothing: what of the particles they keep, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.core.particles import ArraySource, ParticleSet
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.null_particles import phase_randomised, pure_noise
from clarice.physics.simulate import SimulationSettings, simulate


def particles(box: int) -> NoisySet:
    settings = SimulationSettings(60, box, seed=3, snr=2.0)
    return white_set(simulate(make_molecule(3, mass_kda=60), settings).particles)


@pytest.mark.parametrize("box", [24, 25])
def test_noise_is_white_and_keeps_what_is_known_of_the_particles(box: int) -> None:
    noisy = particles(box)
    found = pure_noise(noisy, 1)
    images = found.particles.read()
    assert images.shape == noisy.particles.read().shape
    assert images.std() == pytest.approx(1, abs=0.02)
    power = (np.abs(np.fft.rfft2(images)) ** 2).mean(axis=0) / box**2
    assert power.max() < 2
    assert power.min() > 0.4
    assert found.particles.optics is noisy.particles.optics
    assert np.array_equal(pure_noise(noisy, 1).particles.read(), images)
    assert not np.array_equal(pure_noise(noisy, 2).particles.read(), images)


@pytest.mark.parametrize("box", [24, 25])
def test_random_phases_keep_each_spectrum_and_nothing_else(box: int) -> None:
    noisy = particles(box)
    before, after = noisy.particles.read(), phase_randomised(noisy, 1).particles.read()
    amplitudes = [np.abs(np.fft.fft2(images)) for images in (before, after)]
    assert np.allclose(*amplitudes, rtol=1e-3, atol=1e-3)
    # The images had much in common with one another and with themselves before; the copies have not.
    flat = [images.reshape(60, -1) - images.reshape(60, -1).mean(axis=1, keepdims=True) for images in (before, after)]
    same = [np.corrcoef(one)[np.triu_indices(60, 1)].mean() for one in flat]
    assert same[0] > 0.08
    assert abs(same[1]) < 0.03
    own = [np.corrcoef(first, second)[0, 1] for first, second in zip(*flat, strict=True)]
    assert abs(np.mean(own)) < 0.1


def test_white_noise_stays_white_noise() -> None:
    images = np.random.default_rng(0).normal(size=(200, 16, 16)).astype(np.float32)
    found = phase_randomised(white_set(ParticleSet(ArraySource(images), 3.0)), 1).particles.read()
    assert found.std() == pytest.approx(1, abs=0.02)
    assert abs(found.mean()) < 0.01
