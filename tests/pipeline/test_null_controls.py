"""Null controls: what they say of denoisers that are sound, and of some that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.denoise.sampling_weights import BOX, write_random_weights

from clarice.core.progress import Progress, silent
from clarice.denoise.registry import DenoisedRows, Denoiser, get_denoiser
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline.disjoint_sources import SharedPower
from clarice.pipeline.null_controls import NOISE, PARTICLES, PHASES, Control, Controls, null_controls


@pytest.fixture(scope="module")
def noisy() -> NoisySet:
    settings = SimulationSettings(120, BOX, seed=3, snr=0.5, max_shift_px=0.0)
    return white_set(simulate(make_molecule(3, mass_kda=60), settings).particles)


def denoiser(change: Callable[[np.ndarray], np.ndarray], name: str = "planted") -> Denoiser:
    def function(noisy: NoisySet, *, progress: Progress = silent) -> DenoisedRows:
        rows = np.arange(len(noisy))
        yield rows, change(noisy.particles.read(rows)).astype(np.float32)

    return Denoiser(name, "", function)


def test_a_sound_denoiser_makes_nothing_of_noise(noisy: NoisySet) -> None:
    found = null_controls(noisy, get_denoiser("wiener"), 0.7 * BOX, 1)
    assert [control.kind for control in found.each] == [PARTICLES, NOISE, PHASES]
    assert found.images == 120
    assert found.inventions == []
    assert found.sentence.endswith("it does not make particles of noise")
    assert all(control.denoised.shape == (4, BOX, BOX) for control in found.each)
    assert all(control.averages.shape == (4, BOX, BOX) for control in found.each)
    assert found.shared(found.each[1]) is None  # it has no sources
    # Classes of particles agree with themselves further than those of nothing.
    assert found.each[0].class_frc[1:8].mean() > found.each[1].class_frc[1:8].mean() + 0.2


def test_a_denoiser_that_returns_a_template_is_caught(noisy: NoisySet) -> None:
    template = simulate(make_molecule(4, mass_kda=60), SimulationSettings(1, BOX, seed=5)).clean[0]
    found = null_controls(noisy, denoiser(lambda images: np.repeat(template[None], len(images), 0)), 0.7 * BOX, 1)
    assert found.share_of_power(found.each[1]) == pytest.approx(1)
    assert found.inventions == [
        "100% of the power that particles leave is left by pure noise",
        "all images of random phases become one picture, with 100% of that power",
    ]
    assert "cannot be told from what it leaves of nothing" in found.sentence


def test_one_that_returns_a_template_wherever_it_sees_power_is_caught_by_random_phases(noisy: NoisySet) -> None:
    template = simulate(make_molecule(4, mass_kda=60), SimulationSettings(1, BOX, seed=5)).clean[0]

    def gated(images: np.ndarray) -> np.ndarray:
        low = np.abs(np.fft.fft2(images)[:, [0, 1, 0, 1, 1], [1, 0, 2, 1, -1]]) ** 2
        seen = low.mean(axis=1) > 2 * BOX**2  # twice the power of white noise
        return np.where(seen[:, None, None], template, 0)

    found = null_controls(noisy, denoiser(gated), 0.7 * BOX, 1)
    assert found.share_of_power(found.each[1]) < 0.05
    assert any("all images of random phases become one picture" in told for told in found.inventions)


def test_a_denoiser_that_only_copies_is_caught(noisy: NoisySet) -> None:
    assert null_controls(noisy, denoiser(lambda images: images), 0.7 * BOX, 1).inventions


def test_a_denoiser_that_leaves_nothing_at_all_invents_nothing(noisy: NoisySet) -> None:
    found = null_controls(noisy, denoiser(np.zeros_like), 0.7 * BOX, 1)
    assert found.inventions == []
    assert found.share_of_power(found.each[1]) == 0


def test_networks_are_judged_by_two_images_from_disjoint_sources(
    noisy: NoisySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with random weights answers to anything."""
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    write_random_weights(tmp_path)
    found = null_controls(noisy, get_denoiser("polar-transformer"), 0.7 * BOX, 1)
    assert found.shared(found.each[0]) is not None
    assert found.shared_curve(found.each[0]).shape == (BOX // 2 + 1,)
    assert np.allclose(found.shared_curve(found.each[0]), found.each[0].twice.frc)


def control(kind: str, shared: float, power: float = 1.0) -> Control:
    shells = np.ones(BOX // 2 + 1)
    blank = np.zeros((1, BOX, BOX), np.float32)
    return Control(kind, power, 0.0, SharedPower(shared * shells, shells), blank, blank, shells)


def test_shared_power_of_nothing_counts_over_that_of_particles() -> None:
    made = Controls("m", 9, [control(PARTICLES, 0.6), control(NOISE, 0.01, 0.01), control(PHASES, 0.2, 0.2)])
    assert made.shared(made.each[0]) == pytest.approx(0.6)
    assert made.shared(made.each[2]) == pytest.approx(0.2)
    assert made.inventions == ["two images of random phases from disjoint sources share 20% of that power"]
    sound = Controls("m", 9, [control(PARTICLES, 0.6), control(NOISE, 0.01, 0.01), control(PHASES, 0.02, 0.9)])
    assert sound.inventions == []
