"""What every registered denoiser must keep: order, box, sign, sameness, turns, silence on pure noise."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clarice.core.errors import InputError, UsageError
from clarice.core.particles import ArraySource, Optics, ParticleSet
from clarice.denoise.networks import NETWORKS
from clarice.denoise.registry import denoise_all, denoiser_names, get_denoiser
from clarice.metrics.image import image_scores, relative_mse
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate

Images = NDArray[np.float32]
METHODS = denoiser_names()
# Networks have learned that protein is bright; those on pixels only roughly treat turned images alike.
EVEN_HANDED = [name for name in METHODS if name not in NETWORKS]
TURNING = [name for name in METHODS if name not in ("dncnn", "unet")]
BOXES = (32, 33)


@lru_cache(maxsize=4)
def simulated_set(box: int, particles: int) -> SimulatedSet:
    settings = SimulationSettings(particles=particles, box=box, seed=5, snr=0.1, max_shift_px=1.5)
    return simulate(make_molecule(3, mass_kda=60), settings)


def made(box: int, method: str) -> SimulatedSet:
    """As many particles as the method needs: filters learn their statistics from them, networks take their time."""
    return simulated_set(box, 200 if method in NETWORKS else 400)


@cache
def estimates(method: str, box: int) -> Images:
    """What the method makes of `made(box, method)`: asked for by many tests, and made once."""
    images = run(method, white_set(made(box, method).particles))
    images.setflags(write=False)
    return images


@pytest.fixture(params=BOXES)
def simulated(request: pytest.FixtureRequest, method: str) -> SimulatedSet:
    return made(request.param, method)


def run(method: str, noisy: NoisySet, **options: bool) -> Images:
    return denoise_all(get_denoiser(method)(noisy, **options), len(noisy), noisy.box)


def with_images(particles: ParticleSet, images: Images) -> ParticleSet:
    return replace(particles, images=ArraySource(np.ascontiguousarray(images)))


def noise_like(particles: ParticleSet) -> ParticleSet:
    generator = torch.Generator().manual_seed(9)
    shape = (len(particles), particles.box, particles.box)
    return with_images(particles, torch.randn(shape, generator=generator).numpy())


def turned(images: Images) -> Images:
    """Content turned by +90° (x towards y) about index L // 2."""
    source = images[:, 1:, 1:] if images.shape[-1] % 2 == 0 else images
    result = np.zeros_like(images)
    start = images.shape[-1] - source.shape[-1]
    # The pixel at (x, y) from the centre goes to (−y, x).
    result[:, start:, start:] = source.transpose(0, 2, 1)[:, :, ::-1]
    return result


def turned_optics(optics: Optics) -> Optics:
    return replace(optics, defocus_angle_deg=optics.defocus_angle_deg + 90)


@pytest.mark.parametrize("method", METHODS)
def test_images_are_nearer_to_their_own_truth_and_sign_than_to_any_other(method: str, simulated: SimulatedSet) -> None:
    images = estimates(method, simulated.particles.box)
    assert images.shape == simulated.clean.shape
    assert images.dtype == np.float32
    assert np.all(np.isfinite(images))
    scores = image_scores(images, simulated.clean).correlation
    assert float(np.mean(scores)) > 0.5
    shuffled = image_scores(images, np.roll(simulated.clean, 1, axis=0)).correlation
    assert float(np.mean(scores)) > float(np.mean(shuffled)) + 0.02


@pytest.mark.parametrize("method", METHODS)
def test_the_error_falls_far_below_that_of_the_noisy_image(method: str, simulated: SimulatedSet) -> None:
    images = estimates(method, simulated.particles.box)
    noisy = simulated.images
    best = relative_mse(noisy, simulated.clean, fit="scale")
    assert relative_mse(images, simulated.clean) < 0.6 * best


@pytest.mark.parametrize("method", METHODS)
def test_rows_come_once_each_and_in_order(method: str) -> None:
    noisy = white_set(made(32, method).particles)
    rows = np.concatenate([part for part, _ in get_denoiser(method)(noisy)])
    assert np.array_equal(rows, np.arange(len(noisy)))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_set_gives_the_same_images(method: str) -> None:
    assert np.array_equal(run(method, white_set(made(32, method).particles)), estimates(method, 32))


@pytest.mark.parametrize("method", EVEN_HANDED)
def test_negated_images_give_negated_estimates(method: str) -> None:
    particles = made(32, method).particles
    straight = estimates(method, 32)
    negated = run(method, white_set(with_images(particles, -particles.read())))
    assert np.allclose(straight, -negated, atol=1e-4 * float(np.abs(straight).max()))


@pytest.mark.parametrize("method", TURNING)
def test_turning_every_image_turns_every_estimate(method: str, simulated: SimulatedSet) -> None:
    particles = simulated.particles
    assert particles.optics is not None
    # Row and column 0 of an even box have no partner under the turn: they are emptied first.
    images = turned(turned(turned(turned(particles.read()))))
    straight = run(method, white_set(with_images(particles, images)))
    rotated = replace(with_images(particles, turned(images)), optics=turned_optics(particles.optics))
    difference = run(method, white_set(rotated)) - turned(straight)
    inner = difference[:, 2:-2, 2:-2]
    assert float(np.sqrt(np.mean(inner**2))) < 0.02 * float(straight.std())


@pytest.mark.parametrize("method", METHODS)
def test_pure_noise_gives_little_power(method: str, simulated: SimulatedSet) -> None:
    real = estimates(method, simulated.particles.box)
    nothing = run(method, white_set(noise_like(simulated.particles)))
    # A network that sees one image at a time has little to tell nothing from something by.
    alone = method in NETWORKS and NETWORKS[method].alone
    assert float(np.mean(nothing**2)) < (0.1 if alone else 0.05) * float(np.mean(real**2))


@pytest.mark.parametrize("method", METHODS)
def test_halves_apart_share_nothing(method: str) -> None:
    particles = made(32, method).particles
    half_set = (1 + np.arange(len(particles)) % 2).astype(np.int8)
    halves = replace(particles, half_set=half_set)
    first = run(method, white_set(halves), halves_apart=True)
    changed = particles.read()
    changed[half_set == 2] *= 3
    second = run(method, white_set(with_images(halves, changed)), halves_apart=True)
    assert np.array_equal(first[half_set == 1], second[half_set == 1])
    assert not np.array_equal(first[half_set == 2], second[half_set == 2])
    alone = run(method, white_set(halves.subset(np.flatnonzero(half_set == 1))))
    assert np.array_equal(first[half_set == 1], alone)


@pytest.mark.parametrize("method", METHODS)
def test_a_set_without_optics_and_a_single_image_can_be_denoised(method: str) -> None:
    particles = replace(made(32, method).particles, optics=None)
    assert np.all(np.isfinite(run(method, white_set(particles.subset(np.array([4]))))))


@pytest.mark.parametrize("method", METHODS)
def test_phase_flipped_images_give_the_same_estimates(method: str) -> None:
    noisy = white_set(made(32, method).particles)
    rows = np.arange(len(noisy))
    flipped = torch.fft.rfft2(noisy.images(rows)) * torch.sign(noisy.ctf_of(rows))
    images = torch.fft.irfft2(flipped, s=(32, 32)).numpy()
    other = replace(noisy, particles=with_images(noisy.particles, images), phase_flipped=True)
    assert relative_mse(run(method, other), estimates(method, 32)) < 1e-4


def test_halves_apart_need_half_sets() -> None:
    with pytest.raises(InputError, match="_rlnRandomSubset"):
        get_denoiser(METHODS[0])(white_set(made(32, METHODS[0]).particles), halves_apart=True)


def test_an_unknown_method_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="covariance-wiener"):
        get_denoiser("magic")
