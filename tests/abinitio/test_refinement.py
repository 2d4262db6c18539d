"""Refinement: better maps, half maps that agree no further than the truth allows, and numbers that come again."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.abinitio.conftest import BOX, noise_only, refinement_settings, start_settings

from clarice.abinitio import refinement
from clarice.abinitio.evidence import doubts, gain_by_start, least_agreement_px
from clarice.abinitio.half_sets import HalfSets, assign_half_sets
from clarice.abinitio.pose_assignment import lay_on
from clarice.abinitio.projection_matching import InitialMap, initial_map
from clarice.abinitio.refinement import (
    FINEST_SPACING_DEG,
    LOOK_AHEAD,
    Refined,
    Settings,
    State,
    refine,
    shared_radius,
)
from clarice.core.particles import ArraySource
from clarice.geometry.fourier import radius_grid, up_to_radius
from clarice.geometry.so3 import angle_between_deg
from clarice.metrics.registration import Registration, apply_superposition, carry_poses
from clarice.metrics.shells import fsc, resolution_at
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate


def resolution_px(curve: np.ndarray) -> float:
    """Where the FSC against the truth falls below 0.5, in pixels."""
    return resolution_at(curve, 0.5, 1.0, BOX)


def test_refinement_improves_the_map(
    refined: Refined, refined_registered: Registration, found_registered: Registration, truth: np.ndarray
) -> None:
    before, after = fsc(found_registered.volume, truth), fsc(refined_registered.volume, truth)
    assert refined_registered.correlation > found_registered.correlation + 0.03
    assert resolution_px(after) < 2.4 < 3.3 < resolution_px(before)
    assert after[1:9].min() > 0.95
    evidence = [row.mean_log_evidence for row in refined.history]
    assert evidence == sorted(evidence)


def test_half_maps_agree_as_far_as_the_truth_allows_and_no_further(
    refined: Refined, refined_registered: Registration, truth: np.ndarray
) -> None:
    """With independent errors the map's FSC with the truth is √(2 F / (1 + F)), F that of the halves."""
    halves = refined.fsc.double().numpy().clip(0)
    implied, true = np.sqrt(2 * halves / (1 + halves)), fsc(refined_registered.volume, truth)
    shells = slice(1, int(refined.history[-1].radius_px) + 1)
    assert (implied - true)[shells].max() < 0.06
    assert (true - implied)[shells].max() < 0.2


def test_each_half_map_shows_the_structure(
    refined: Refined, refined_registered: Registration, truth: np.ndarray
) -> None:
    found = refined_registered
    for half in refined.halves:
        turned = apply_superposition(half, found.rotation, found.shift_px, found.mirrored)
        assert fsc(turned, truth)[1:9].min() > 0.9


def test_poses_are_the_true_ones(refined: Refined, refined_registered: Registration, simulated: SimulatedSet) -> None:
    poses = carry_poses(refined.poses, refined_registered)
    assert np.median(angle_between_deg(poses.rotations, simulated.poses.rotations)) < 1.5 * FINEST_SPACING_DEG
    distance = np.linalg.norm(poses.shifts_px - simulated.poses.shifts_px, axis=1)
    assert np.median(distance) < 0.4
    assert refined.confidence.shape == (len(simulated.images),)
    assert 0 <= refined.confidence.min() <= refined.confidence.max() <= 1.0001


def test_each_iteration_looks_a_little_beyond_what_the_halves_agree_on(refined: Refined) -> None:
    first, *later = refined.history
    assert not first.is_local
    assert all(row.is_local for row in later)
    for before, row in zip(refined.history, later, strict=False):
        assert row.radius_px == min(before.agreement_px + LOOK_AHEAD, BOX // 2 - 1)
        assert FINEST_SPACING_DEG <= row.spacing_deg <= before.spacing_deg
    assert later[-1].angle_change_deg < later[0].angle_change_deg


def test_poses_found_on_a_finished_map(noisy: NoisySet, simulated: SimulatedSet) -> None:
    laid = lay_on(noisy, torch.from_numpy(simulated.volume), refinement_settings(9.0, 1))
    poses = laid.poses
    error = angle_between_deg(poses.rotations, simulated.poses.rotations)
    assert np.median(error) < 6
    assert float(np.mean(error < 15)) > 0.97
    assert np.median(np.linalg.norm(poses.shifts_px - simulated.poses.shifts_px, axis=1)) < 0.6
    assert laid.confidence.mean() > 0.5
    assert laid.log_evidence.mean() > 10


@pytest.fixture(scope="module")
def of_noise(simulated: SimulatedSet, half_set: HalfSets) -> list[tuple[Refined, Settings]]:
    """Three stacks of nothing but noise, from random starts to half maps."""
    results = []
    for seed in (0, 1, 2):
        noise = noise_only(simulated, seed).subset(np.arange(200))
        start = initial_map(noise, start_settings(seed, starts=1))
        settings = refinement_settings(start.radius_px, 3)
        results.append((refine(noise, start.volume, half_set[:200], settings), settings))
    return results


def test_half_maps_of_pure_noise_do_not_agree(of_noise: list[tuple[Refined, Settings]]) -> None:
    """Not beyond what both halves start from, that is; and every one of them is doubted, in words."""
    for result, settings in of_noise:
        assert result.history[-1].agreement_px <= least_agreement_px(BOX, settings)
        assert "hardly likelier" in " ".join(doubts(result, settings, 2.0))
        # No particle is likelier under such a map, and its view is anyone's guess.
        assert result.history[0].mean_log_evidence < 0.05
        assert result.confidence.mean() < 0.05


def test_noise_does_not_agree_beyond_the_map_it_is_refined_from(
    simulated: SimulatedSet, noisy: NoisySet, half_set: HalfSets, truth: np.ndarray
) -> None:
    settings, start = refinement_settings(9.0, 3), torch.from_numpy(truth)
    noise = noise_only(simulated, 3)
    assert gain_by_start(noise, start, settings) < -10
    assert gain_by_start(noisy, start, settings) > 50
    result = refine(noise, start, half_set, settings)
    assert result.history[-1].agreement_px <= least_agreement_px(BOX, settings)
    assert "no evidence of a structure" in " ".join(doubts(result, settings, 2.0))


def test_a_right_map_raises_no_doubt(refined: Refined) -> None:
    assert doubts(refined, refinement_settings(9.0, 4), 2.0) == []


def test_doubts_name_what_is_wrong(refined: Refined) -> None:
    """A map that agrees in its spherical mean alone, as that of a hollow sphere in wrong views would; and others."""
    settings = refinement_settings(9.0, 4)
    shells = torch.arange(len(refined.orientation_fsc))

    def told(up_to: int, **changes: Any) -> list[str]:
        curve = torch.where(shells <= up_to, refined.orientation_fsc, 0.0)
        return doubts(replace(refined, orientation_fsc=curve, **changes), settings, 2.0)

    assert ["spherical means" in doubt for doubt in told(9)] == [True]
    assert told(12) == []
    assert "no evidence of a structure" in told(7)[0]
    assert "pose confidence" in told(12, confidence=refined.confidence * 0.1)[0]
    assert "compared to 8.0 Å only" in told(12, history=(replace(refined.history[-1], radius_px=8.0),))[0]
    fine = replace(settings, shared_radius_px=100.0)
    assert shared_radius(BOX, fine) == BOX / 2 - 1
    assert doubts(refined, fine, 2.0) == []


@dataclass(frozen=True)
class Told:
    """What a progress callback was told."""

    done: list[int]

    def __call__(self, _: str, done: int, __: int) -> None:
        self.done.append(done)


class KilledError(Exception):
    """Stands for the end of the process."""


class BytesStore:
    """A checkpoint store that holds bytes, as a disk does, and may end the process after some saves."""

    def __init__(self, killed_after: int | None = None) -> None:
        self.content: bytes | None = None
        self.step, self.killed_after = 0, killed_after

    def save(self, state: Mapping[str, Any], step: int) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.content, self.step = buffer.getvalue(), step
        if step == self.killed_after:
            raise KilledError

    def load(self) -> tuple[dict[str, Any], int] | None:
        if self.content is None:
            return None
        return torch.load(io.BytesIO(self.content), weights_only=True), self.step


@pytest.fixture(scope="module")
def small() -> tuple[NoisySet, torch.Tensor, HalfSets, Settings]:
    """60 particles of 17 px and a start, for what does not depend on how good the map gets."""
    settings = SimulationSettings(particles=60, box=17, seed=2, snr=1.0, max_shift_px=1.0, defocus_groups=5)
    simulated = simulate(make_molecule(2, mass_kda=100), settings)
    start = torch.from_numpy(simulated.volume)
    return (
        white_set(simulated.particles),
        start,
        assign_half_sets(60, 1),
        Settings(12.0, iterations=3, further_iterations=0, start_radius_px=5.0, seed=6),
    )


def same(one: Refined, other: Refined) -> bool:
    return (
        torch.equal(one.volume, other.volume)
        and torch.equal(one.halves, other.halves)
        and torch.equal(one.fsc, other.fsc)
        and np.array_equal(one.poses.rotations, other.poses.rotations)
        and np.array_equal(one.poses.shifts_px, other.poses.shifts_px)
        and np.array_equal(one.confidence, other.confidence)
        and one.history == other.history
    )


def test_the_same_seed_gives_the_same_map_whether_or_not_the_work_was_cut(
    small: tuple[NoisySet, torch.Tensor, HalfSets, Settings],
) -> None:
    particles, start, half_set, settings = small
    undisturbed = refine(particles, start, half_set, settings)
    assert same(refine(particles, start, half_set, settings), undisturbed)
    assert not same(refine(particles, start, half_set, replace(settings, seed=7)), undisturbed)
    for killed_after in (1, 3):
        store, told = BytesStore(killed_after), Told([])
        with pytest.raises(KilledError):
            refine(particles, start, half_set, settings, checkpoint=store)
        store.killed_after = None
        # The start no longer matters: all that counts is in the checkpoint.
        resumed = refine(particles, torch.zeros_like(start), half_set, settings, told, store)
        assert told.done == [*range(killed_after, 3), 3]
        assert same(resumed, undisturbed)


def test_what_one_half_says_depends_on_its_own_particles_alone(
    small: tuple[NoisySet, torch.Tensor, HalfSets, Settings],
) -> None:
    particles, start, half_set, settings = small
    images = particles.particles.read().copy()
    images[half_set == 2] = images[half_set == 2][::-1]
    mixed = replace(particles, particles=replace(particles.particles, images=ArraySource(images)))
    stores = BytesStore(), BytesStore()
    for source, store in zip((particles, mixed), stores, strict=True):
        refine(source, start, half_set, replace(settings, iterations=1), checkpoint=store)
    states = [loaded[0] for store in stores if (loaded := store.load()) is not None]
    of_one, of_two = zip(states[0]["sums"], states[1]["sums"], strict=True)
    assert all(torch.equal(a, b) for a, b in zip(*of_one, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(*of_two, strict=True))


def test_refined_first_map_starts_from_the_found_one(found: InitialMap, refined: Refined) -> None:
    assert refined.history[0].radius_px == found.radius_px
    assert refined.volume.shape == found.volume.shape == (BOX, BOX, BOX)


def test_both_halves_start_from_the_coarse_part_of_the_map(small, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, start, half_set, settings = small
    begun: list[torch.Tensor] = []

    def keep(_: NoisySet, state: State, *__: object) -> State:
        begun.append(state.volumes)
        raise KilledError

    monkeypatch.setattr(refinement, "_iterate", keep)
    for asked, radius in ((None, 4.0 * 17 / 12.0), (3.0, 3.0), (100.0, 17 / 2 - 1)):
        with pytest.raises(KilledError):
            refine(noisy, start, half_set, replace(settings, shared_radius_px=asked))
        first, second = begun.pop()
        assert torch.equal(first, second)
        torch.testing.assert_close(first, up_to_radius(start, radius, 3))


def test_a_symmetric_hollow_particle_is_refined(half_set: HalfSets) -> None:
    """Its coarsest shells tell nothing of orientations, which must neither stop the climb nor raise a doubt."""
    made = SimulationSettings(particles=150, box=BOX, seed=4, snr=1.0, max_shift_px=1.0, defocus_groups=10)
    simulated = simulate(make_molecule(7, mass_kda=450, symmetry="O"), made)
    sphere = (radius_grid(BOX, 3) - 9).abs() < 2
    hollow = torch.from_numpy(simulated.volume) + sphere * simulated.volume.std()
    settings = replace(refinement_settings(9.0, 4), symmetry="O")
    result = refine(white_set(simulated.particles), hollow, half_set[:150], settings)
    assert result.history[-1].agreement_px >= 12
    radii = [row.radius_px for row in result.history]
    assert radii == sorted(radii)
    assert min(radii) >= 9
    assert doubts(result, settings, 2.0) == []
