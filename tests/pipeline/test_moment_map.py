"""A first map by moments: found from particles that lie off centre, and refused where it has no sense."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.abinitio.structures import spread

from clarice.abinitio.learned_retrieval import LearnedSettings
from clarice.abinitio.moment_fit import FitSettings, MomentFit
from clarice.abinitio.moment_network import MomentNetwork, MomentNetworkSize
from clarice.core.errors import InputError, UsageError
from clarice.core.particles import RowIndex
from clarice.io.weights import write_weights
from clarice.metrics.registration import register
from clarice.metrics.shells import fsc
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate
from clarice.pipeline import first_map, moment_map
from clarice.pipeline.denoised_files import DenoisedImages
from clarice.pipeline.first_map import find_first_map
from clarice.pipeline.first_map_settings import FirstMapSettings, Method
from clarice.pipeline.moment_map import FEWEST_PARTICLES, MomentMap, first_map_by_moments

BOX, COUNT = 24, 600
SETTINGS = FirstMapSettings(
    0.7 * BOX, Method.MOMENTS, starts=2, images=100, denoiser="covariance-wiener", max_shift_px=2.0
)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rings, and fits that end early: seconds instead of minutes."""
    monkeypatch.setattr(moment_map, "FINEST_WAVES", 2.8)
    monkeypatch.setattr(moment_map, "FitSettings", partial(FitSettings, iterations=30, last_iterations=60))


@pytest.fixture(scope="module")
def simulated() -> SimulatedSet:
    settings = SimulationSettings(COUNT, BOX, seed=2, snr=1.0, max_shift_px=1.5, astigmatic=False)
    return simulate(make_molecule(1, mass_kda=150), settings)


@pytest.fixture(scope="module")
def noisy(simulated: SimulatedSet) -> NoisySet:
    return white_set(simulated.particles)


def test_a_map_is_found_and_judged_by_particles_held_out(noisy: NoisySet, simulated: SimulatedSet) -> None:
    found = find_first_map(noisy, SETTINGS)
    record = found.as_record()
    assert (record["method"], record["judged_by"]) == ("moments", "particles held out")
    assert (record["particles_in_moments"], record["particles_in_map"]) == (400, 400)
    assert len(record["misfit_by_start"]) == SETTINGS.starts
    assert found.warning is None
    assert found.said.startswith("moments of 400 particles, met within ")
    registered = register(found.volume.numpy(), simulated.volume)
    assert fsc(registered.volume, simulated.volume)[1:5].min() > 0.5


@pytest.mark.parametrize(("images", "counted"), [(100, 480), (130, COUNT - 80), (140, COUNT), (500, COUNT)])
def test_particles_denoised_before_are_counted_in_but_for_some_to_judge_by(
    noisy: NoisySet, monkeypatch: pytest.MonkeyPatch, images: int, counted: int
) -> None:
    """Every row that is counted is asked for once; a fifth is held out, of those that the map is not made of."""
    asked: list[int] = []

    def before(rows: RowIndex) -> DenoisedImages:
        asked.extend(rows.tolist())
        return DenoisedImages(torch.zeros(len(rows), BOX, BOX), None)

    class Enough(Exception):  # noqa: N818
        pass

    def taken(particles: NoisySet, *_: object) -> None:
        assert len(particles) == counted
        raise Enough

    monkeypatch.setattr("clarice.pipeline.moment_map.moments_of_particles", taken)
    with pytest.raises(Enough):
        first_map_by_moments(noisy, replace(SETTINGS, images=images), denoised=before)
    assert asked == sorted(set(asked))
    assert len(asked) == counted


@pytest.mark.parametrize(("counted", "judges"), [(480, 120), (COUNT, COUNT)])
def test_what_moments_were_taken_of_is_not_held_out(
    noisy: NoisySet, simulated: SimulatedSet, monkeypatch: pytest.MonkeyPatch, counted: int, judges: int
) -> None:
    """Though the map itself is made of fewer."""
    fit = MomentFit(torch.zeros(1), torch.zeros(1), torch.zeros(1), 1.0, [1.0])
    made = MomentMap(torch.from_numpy(simulated.volume), np.arange(100), np.arange(counted), 5.0, 10, fit)
    asked: list[int] = []

    def gain(particles: NoisySet, *_: object) -> float:
        asked.append(len(particles))
        return 9.0

    monkeypatch.setattr(first_map, "first_map_by_moments", lambda *_: made)
    monkeypatch.setattr(first_map, "gain_by_start", gain)
    record = find_first_map(noisy, SETTINGS).as_record()
    assert asked == [judges]
    assert record["judged_by"] == ("particles held out" if judges < COUNT else "its own particles")
    assert (record["particles_in_moments"], record["particles_in_map"]) == (counted, 100)


def test_a_network_and_the_moments_find_a_map_together(
    noisy: NoisySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a network that was never trained: half of the draws have the correlations, half of them have not."""
    learned = replace(SETTINGS, method=Method.LEARNED)
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"there are no weights .*structures\.safetensors"):
        find_first_map(noisy, learned)
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    size = MomentNetworkSize(channels=4, products=2, blocks=1, context=8)
    network = MomentNetwork(size)
    network.spread.copy_(spread())
    write_weights(tmp_path / "structures.safetensors", network.state_dict(), {"recipe": {"network": vars(size)}})
    quick = partial(LearnedSettings, going_on=1, tries=1, levels=(0.5,), iterations=5, last_iterations=30)
    monkeypatch.setattr(moment_map, "LearnedSettings", quick)
    record = find_first_map(noisy, learned).as_record()
    assert record["method"] == "learned"
    assert len(record["misfit_by_start"]) == 2 * 2 * SETTINGS.starts
    assert record["misfit"] < 0.5 * min(record["misfit_by_start"])
    assert len(record["density_of_views"]) == 9**2 - 1
    assert all(-1 <= each <= 1 for each in record["degree_agreement"])
    with pytest.raises(UsageError, match="too small for --method learned"):
        find_first_map(noisy, replace(learned, diameter_px=6.0))


def test_what_moments_know_nothing_of_is_refused(noisy: NoisySet) -> None:
    with pytest.raises(UsageError, match="--symmetry C4 is not for a map by moments"):
        find_first_map(noisy, replace(SETTINGS, symmetry="C4"))
    with pytest.raises(UsageError, match="leave out --method moments"):
        replace(SETTINGS, classes=2).insist_on_sense()
    with pytest.raises(InputError, match="199 particles are too few"):
        find_first_map(noisy.subset(np.arange(FEWEST_PARTICLES - 1)), SETTINGS)
    with pytest.raises(UsageError, match="--images 49 leaves 196 particles to take moments of: pass 50 or more"):
        find_first_map(noisy, replace(SETTINGS, images=49))
    lines, moments = (
        replace(SETTINGS, method=way).estimate(2000, 64, 64) for way in (Method.COMMON_LINES, SETTINGS.method)
    )
    assert moments.seconds > lines.seconds + 60
    assert moments.memory_mb > lines.memory_mb
