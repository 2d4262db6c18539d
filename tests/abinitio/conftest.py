"""One small simulated set, and what the methods make of it, for all tests of this folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clarice.abinitio import climb, projection_matching, refinement
from clarice.abinitio.half_sets import HalfSets, assign_half_sets
from clarice.abinitio.projection_matching import InitialMap
from clarice.abinitio.refinement import Refined
from clarice.core.particles import ArraySource
from clarice.metrics.registration import Registration, register
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate

COUNT, BOX = 400, 32
DIAMETER_PX = 0.7 * BOX
MAX_SHIFT_PX = 2.0


def start_settings(seed: int = 0, starts: int = 2) -> climb.Settings:
    return climb.Settings(DIAMETER_PX, starts=starts, max_shift_px=MAX_SHIFT_PX, seed=seed)


def refinement_settings(start_radius_px: float, iterations: int) -> refinement.Settings:
    return refinement.Settings(
        DIAMETER_PX, max_shift_px=MAX_SHIFT_PX, iterations=iterations, start_radius_px=start_radius_px
    )


def noise_only(simulated: SimulatedSet, seed: int) -> NoisySet:
    """The same optics, with images that hold nothing but white noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(simulated.images.shape, generator=generator).numpy()
    return white_set(replace(simulated.particles, images=ArraySource(images)))


@pytest.fixture(scope="session")
def simulated() -> SimulatedSet:
    """400 shifted particles of a 150 kDa molecule without symmetry, under 20 CTFs, at SNR 0.7."""
    settings = SimulationSettings(particles=COUNT, box=BOX, seed=5, snr=0.7, max_shift_px=1.5, defocus_groups=20)
    return simulate(make_molecule(1, mass_kda=150), settings)


@pytest.fixture(scope="session")
def noisy(simulated: SimulatedSet) -> NoisySet:
    return white_set(simulated.particles)


@pytest.fixture(scope="session")
def half_set(noisy: NoisySet) -> HalfSets:
    return assign_half_sets(len(noisy), seed=0)


@pytest.fixture(scope="session")
def found(noisy: NoisySet) -> InitialMap:
    """The first map, from two random starts."""
    return projection_matching.initial_map(noisy, start_settings())


@pytest.fixture(scope="session")
def found_registered(found: InitialMap, truth: np.ndarray) -> Registration:
    return register(found.volume, truth)


@pytest.fixture(scope="session")
def refined(noisy: NoisySet, found: InitialMap, half_set: HalfSets) -> Refined:
    """The first map refined for four iterations."""
    return refinement.refine(noisy, found.volume, half_set, refinement_settings(found.radius_px, 4))


@pytest.fixture(scope="session")
def truth(simulated: SimulatedSet) -> np.ndarray:
    return simulated.volume


@pytest.fixture(scope="session")
def refined_registered(refined: Refined, truth: np.ndarray) -> Registration:
    return register(refined.volume, truth)
