"""The first map: the right structure from random orientations, and what its likelihood says of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.abinitio.conftest import BOX, DIAMETER_PX, noise_only, start_settings

from clarice.abinitio import projection_matching
from clarice.abinitio.climb import Phase, Settings
from clarice.abinitio.projection_matching import FINISH, InitialMap, initial_map
from clarice.geometry.so3 import in_plane
from clarice.metrics.registration import Registration, apply_superposition, correlation_in_sphere, register
from clarice.metrics.shells import fsc
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phases of two iterations on a few particles, for what does not depend on how good the map gets."""
    for name, batch in (("SHAPE", 60), ("DETAIL", 60), ("FINISH", 80)):
        phase: Phase = getattr(projection_matching, name)
        short = Phase(phase.radius, 2, batch, 25.0, phase.temperature)
        monkeypatch.setattr(projection_matching, name, short)


def test_random_starts_find_the_structure(found: InitialMap, found_registered: Registration, truth: np.ndarray) -> None:
    """FSC against the truth stays above 0.5 up to the finest ring that the particles were matched on."""
    registered, curve = found_registered, fsc(found_registered.volume, truth)
    finest = int(found.radius_px)
    assert finest == int(FINISH.radius * BOX / start_settings().diameter_px)
    assert curve[1 : finest - 1].min() > 0.8
    assert registered.correlation > 0.85
    # The other hand, or any wrong map, does not come near.
    assert registered.other_hand_correlation is not None
    assert registered.correlation - registered.other_hand_correlation > 0.15


def test_the_map_comes_in_the_particles_grey_values(found_registered: Registration, truth: np.ndarray) -> None:
    volume = found_registered.volume
    scale = float((volume * truth).sum() / (volume**2).sum())
    assert scale == pytest.approx(1.0, abs=0.25)


def test_the_start_that_explains_held_out_particles_best_is_kept(found: InitialMap) -> None:
    assert [start.seed for start in found.starts] == [0, 1]
    assert sum(start.survived for start in found.starts) == 1
    assert found.starts[found.chosen].survived
    assert found.is_likelier_than_noise
    assert found.starts[found.chosen].log_likelihood > 50


@pytest.mark.slow
def test_a_map_of_pure_noise_explains_no_particle_it_has_not_seen(simulated: SimulatedSet) -> None:
    found = initial_map(noise_only(simulated, seed=2), start_settings(2))
    assert not found.is_likelier_than_noise
    assert all(abs(start.log_likelihood) < 0.01 for start in found.starts)


def tiny_set(count: int = 60, box: int = 16) -> NoisySet:
    settings = SimulationSettings(particles=count, box=box, seed=1, snr=1.0)
    return white_set(simulate(make_molecule(2, mass_kda=60), settings).particles)


@pytest.mark.usefixtures("brief")
def test_the_same_seed_gives_the_same_map() -> None:
    particles = tiny_set()
    once, again, other = (initial_map(particles, Settings(11.0, starts=3, seed=seed)) for seed in (4, 4, 5))
    assert torch.equal(once.volume, again.volume)
    assert once.starts == again.starts
    assert not torch.equal(once.volume, other.volume)


@pytest.mark.usefixtures("brief")
def test_progress_counts_every_iteration_of_every_start() -> None:
    told: list[tuple[str, int, int]] = []
    found = initial_map(tiny_set(), Settings(11.0, starts=3), lambda *step: told.append(step))
    assert [done for _, done, _ in told] == list(range(1, 13))  # 3 starts, 2 survivors, the finish: 2 iterations each
    assert {total for _, _, total in told} == {12}
    assert [start.survived for start in found.starts].count(True) == 2


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(("count", "box"), [(9, 16), (40, 17)])
def test_few_particles_and_odd_boxes_are_no_trouble(count: int, box: int) -> None:
    volume = initial_map(tiny_set(count, box), Settings(0.7 * box, starts=1)).volume
    assert volume.shape == (box, box, box)
    assert bool(torch.isfinite(volume).all())
    assert float(volume.std()) > 0


def self_agreement(volume: np.ndarray, angle_deg: float) -> float:
    """Correlation of a map with itself turned about z."""
    turned = apply_superposition(volume, in_plane(angle_deg), np.zeros(3), False)
    return correlation_in_sphere(turned, volume)


def test_a_four_fold_set_gives_a_four_fold_map() -> None:
    drawn = SimulationSettings(particles=300, box=BOX, seed=3, snr=0.8, max_shift_px=1.0, defocus_groups=10)
    simulated = simulate(make_molecule(4, mass_kda=200, symmetry="C4"), drawn)
    settings = Settings(DIAMETER_PX, starts=2, symmetry="C4", max_shift_px=1.0, seed=1)
    volume = initial_map(white_set(simulated.particles), settings).volume.numpy()
    assert self_agreement(volume, 90) > 0.99
    assert self_agreement(volume, 45) < 0.95
    registered = register(volume, simulated.volume)
    assert registered.correlation > 0.85
    assert fsc(registered.volume, simulated.volume)[1:7].min() > 0.7
