"""Controls of a map: sound where its particles show it, doubtful where noise or any molecule would do as well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from clarice.abinitio.pose_assignment import lay_halves_on, lay_on
from clarice.abinitio.reconstruct import spherical_support
from clarice.abinitio.refinement import Settings
from clarice.geometry.fourier import fourier_resize
from clarice.metrics.shells import fsc
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.null_particles import pure_noise
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline.map_controls import (
    NOISE,
    PARTICLES,
    PHASES,
    WRONG,
    LaidKind,
    MapControls,
    _in_box,
    _power,
    _sampled,
    map_controls,
    wrong_molecule,
)

BOX, DIAMETER_PX = 36, 24.0
SETTINGS = Settings(DIAMETER_PX, max_shift_px=1.0, start_radius_px=9.0, seed=1)


@pytest.fixture(scope="module")
def stack() -> tuple[NoisySet, Tensor, np.ndarray]:
    """120 particles, their true map twice with noise of its own, and their half sets."""
    settings = SimulationSettings(120, BOX, seed=3, snr=0.2, max_shift_px=0.5)
    simulated = simulate(make_molecule(3, mass_kda=120), settings)
    noise = torch.randn((2, BOX, BOX, BOX), generator=torch.Generator().manual_seed(1))
    volume = torch.as_tensor(simulated.volume)
    halves = volume + 0.1 * volume.std() * noise
    return white_set(simulated.particles), halves, np.arange(120, dtype=np.int8) % 2 + 1


def test_a_map_that_particles_show_is_sound(stack: tuple[NoisySet, Tensor, np.ndarray]) -> None:
    found = map_controls(*stack, SETTINGS)
    assert [kind.kind for kind in found.each] == [PARTICLES, NOISE, PHASES, WRONG]
    assert found.doubts == []
    assert found.sentence.endswith("the map is what its particles show")
    assert found.over_noise[0] > 20
    assert found.over_wrong[0] > 5
    assert found.over_phases[0] > 20
    noise = found.each[1].power
    assert (found.each[0].power, found.fewest) == (1, 60)
    assert noise is not None
    assert noise < 0.15
    # Noise that is laid on a map makes that map, which is why agreement of halves is not enough.
    support = spherical_support(found.reference.shape[-1], DIAMETER_PX * found.reference.shape[-1] / BOX).numpy()
    laid = fsc(found.each[1].volume.numpy(), found.reference.numpy(), support)
    assert laid[2:6].mean() > 0.4


def test_a_map_made_of_noise_is_caught(stack: tuple[NoisySet, Tensor, np.ndarray]) -> None:
    """The planted failure: noise turned towards a template, whose half maps then agree."""
    noisy, halves, half_set = stack
    noise = pure_noise(noisy, 7)
    made = lay_halves_on(noise, halves, half_set, SETTINGS).halves
    support = spherical_support(BOX, DIAMETER_PX)
    assert fsc(made[0].numpy(), made[1].numpy(), support.numpy())[2:6].mean() > 0.4
    found = map_controls(noise, made, half_set, SETTINGS)
    assert "no better than pure noise" in found.doubts[0]
    assert found.each[1].power is not None
    assert found.each[1].power > 0.4
    assert found.sentence.endswith("the map may be no more than what its images were turned towards")


def test_particles_gain_less_on_a_map_that_is_not_theirs(stack: tuple[NoisySet, Tensor, np.ndarray]) -> None:
    noisy, halves, half_set = stack
    other = torch.as_tensor(
        simulate(make_molecule(11, mass_kda=120), SimulationSettings(2, BOX, seed=3, snr=0.2)).volume
    )
    right, wrong = (
        map_controls(noisy, halves, half_set, SETTINGS),
        map_controls(noisy, torch.stack([other, other]), half_set, SETTINGS),
    )
    assert wrong.over_wrong[0] < 0.5 * right.over_wrong[0]
    assert wrong.over_noise[0] < right.over_noise[0]


@pytest.mark.parametrize("symmetry", ["C1", "D2"])
def test_the_wrong_molecule_has_the_spectrum_and_size_of_the_map(
    stack: tuple[NoisySet, Tensor, np.ndarray], symmetry: str
) -> None:
    small = _in_box(stack[1], 24)
    support = spherical_support(24, 16)
    references = small * support
    wrong = wrong_molecule(references, support, replace(SETTINGS, symmetry=symmetry), 6.0)
    shells = slice(1, 9)
    assert torch.allclose(_power(wrong[None])[shells], _power(references)[shells], rtol=0.15)
    assert float((wrong * (support == 0)).abs().max()) == 0
    assert fsc(wrong.numpy(), references.mean(dim=0).numpy())[3:9].mean() < 0.6
    turned = torch.flip(wrong, dims=(1, 2)).roll((1, 1), dims=(1, 2))  # half a turn about z, in an even box
    agrees = float((turned * wrong).sum() / wrong.square().sum())
    assert (agrees > 0.98) is (symmetry == "D2")


def test_a_smaller_box_shows_the_same_projections(stack: tuple[NoisySet, Tensor, np.ndarray]) -> None:
    """Likelihoods do not depend on the box that a map is held in, as long as it holds all rings."""
    noisy, halves, _ = stack
    settings = replace(SETTINGS, start_radius_px=7.0)
    whole = lay_on(noisy, halves[0], settings)
    laid = lay_halves_on(noisy, _in_box(halves[:1], 24).repeat(2, 1, 1, 1), np.full(120, 1, dtype=np.int8), settings)
    assert np.corrcoef(whole.log_evidence, laid.log_evidence)[0, 1] > 0.999
    assert laid.log_evidence.mean() == pytest.approx(whole.log_evidence.mean(), rel=0.02)
    back = fourier_resize(_in_box(halves[:1], 24)[0], BOX, 3) * (24 / BOX) ** 3
    assert float(fsc(back.numpy(), halves[0].numpy())[1:10].min()) > 0.999


@pytest.mark.parametrize(
    ("own", "noise", "phases", "wrong", "power", "doubts"),
    [
        (50.0, -10.0, -5.0, 20.0, 0.04, []),
        (-10.0, -10.0, -20.0, -30.0, 0.04, ["no better than pure noise", "random"]),
        (20.0, -10.0, 8.0, 10.0, 0.04, ["random"]),
        (20.0, -10.0, -5.0, 20.0, 0.04, ["wrong molecule"]),
        (50.0, -10.0, -5.0, 20.0, None, []),
        (0.0, 0.0, 0.0, 0.0, 0.9, ["no better than pure noise", "random", "wrong molecule"]),
    ],
)
def test_each_doubt_has_its_reason(
    own: float, noise: float, phases: float, wrong: float, power: float | None, doubts: list[str]
) -> None:
    spread = np.linspace(-1, 1, 64)
    flat, fsc_of = torch.zeros(4, 4, 4), np.ones(3)
    each = [
        LaidKind(PARTICLES, own + spread, flat, fsc_of, 1.0),
        LaidKind(NOISE, noise + spread[::-1], flat, fsc_of, power),
        LaidKind(PHASES, phases + np.roll(spread, 9), flat, fsc_of, 0.1),
        LaidKind(WRONG, wrong + np.roll(spread, 5), flat, fsc_of, 0.5),
    ]
    found = MapControls(each, flat, flat, 4.0, 32)
    assert len(found.doubts) == len(doubts)
    assert all(words in said for words, said in zip(doubts, found.doubts, strict=True))
    assert ("4.0 % of the power" in found.sentence) is (not doubts and power is not None)


@pytest.mark.parametrize(("box", "snr"), [(24, 0.2), (24, 0.05), (32, 0.02)])
def test_faint_or_small_particles_raise_no_doubt(box: int, snr: float) -> None:
    """Noise makes more of a map the less its particles show, which says nothing against it."""
    settings = SimulationSettings(256, box, seed=4, snr=snr, max_shift_px=0.5)
    simulated = simulate(make_molecule(3, mass_kda=120), settings)
    volume = torch.as_tensor(simulated.volume)
    halves = volume + 0.1 * volume.std() * torch.randn((2, box, box, box), generator=torch.Generator().manual_seed(1))
    half_set = np.arange(256, dtype=np.int8) % 2 + 1
    found = map_controls(white_set(simulated.particles), halves, half_set, replace(SETTINGS, diameter_px=0.65 * box))
    assert found.doubts == []


def test_every_half_is_sampled_and_too_small_ones_are_told(stack: tuple[NoisySet, Tensor, np.ndarray]) -> None:
    rows = _sampled(np.arange(511, dtype=np.int8) % 2 + 1)
    assert [len(rows), int((rows % 2 == 0).sum())] == [256, 128]
    noisy, halves, _ = stack
    lopsided = np.full(120, 1, dtype=np.int8)
    lopsided[7] = 2
    found = map_controls(noisy, halves, lopsided, SETTINGS)
    assert found.doubts == ["one half set has 1 particles, by which its map cannot be judged"]
