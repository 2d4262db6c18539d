"""Particles laid on a finished map of a known point group: right up to the group, from one unit's views alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.abinitio.conftest import BOX, DIAMETER_PX, MAX_SHIFT_PX

from clarice.abinitio.pose_assignment import Laid, lay_closely, lay_on
from clarice.abinitio.refinement import FINEST_SPACING_DEG, GLOBAL_SPACING_DEG, Settings
from clarice.abinitio.views import in_asymmetric_unit
from clarice.core.particles import FloatArray
from clarice.geometry import so3
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate

COUNT = 150


@pytest.fixture(scope="module", params=["C4", "D2", "T"])
def symmetry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def symmetric(symmetry: str) -> SimulatedSet:
    """Shifted particles of a symmetric molecule under a few CTFs, hardly any noise."""
    settings = SimulationSettings(particles=COUNT, box=BOX, seed=3, snr=20.0, max_shift_px=1.5, defocus_groups=5)
    return simulate(make_molecule(4, mass_kda=300, symmetry=symmetry), settings)


@pytest.fixture(scope="module")
def laid(symmetric: SimulatedSet, symmetry: str) -> Laid:
    settings = Settings(DIAMETER_PX, symmetry=symmetry, max_shift_px=MAX_SHIFT_PX, start_radius_px=11.0)
    return lay_on(white_set(symmetric.particles), torch.from_numpy(symmetric.volume), settings)


def errors_deg(found: FloatArray, true: FloatArray, symmetry: str) -> FloatArray:
    """Angle between found and true rotations, to the nearest copy under the point group."""
    copies = [so3.angle_between_deg(found, true @ g) for g in so3.symmetry_rotations(symmetry)]
    return np.asarray(np.minimum.reduce(copies))


def test_rotations_are_right_up_to_the_point_group(symmetric: SimulatedSet, laid: Laid, symmetry: str) -> None:
    found, true = laid.poses.rotations, symmetric.poses.rotations
    error = errors_deg(found, true, symmetry)
    assert np.median(error) < 0.8 * GLOBAL_SPACING_DEG
    assert float(np.mean(error < 2 * GLOBAL_SPACING_DEG)) > 0.97
    # Which copy is found is chance, so that most rotations are far from the true ones as they stand.
    order = len(so3.symmetry_rotations(symmetry))
    assert float(np.mean(errors_deg(found, true, "C1") < 2 * GLOBAL_SPACING_DEG)) < 1.5 / order


def test_laid_closely_poses_are_as_good_as_the_finest_grid(symmetric: SimulatedSet, laid: Laid, symmetry: str) -> None:
    settings = Settings(DIAMETER_PX, symmetry=symmetry, max_shift_px=MAX_SHIFT_PX)
    closely = lay_closely(white_set(symmetric.particles), torch.from_numpy(symmetric.volume), settings, 14.0)
    before, after = (errors_deg(each.poses.rotations, symmetric.poses.rotations, symmetry) for each in (laid, closely))
    assert np.median(after) < 0.75 * np.median(before)
    assert np.median(after) < FINEST_SPACING_DEG
    assert float(np.mean(after < 2 * GLOBAL_SPACING_DEG)) > 0.97
    distance = np.linalg.norm(closely.poses.shifts_px - symmetric.poses.shifts_px, axis=1)
    assert np.median(distance) < 0.4


def test_where_rings_need_no_closer_views_than_those_everywhere_none_are_looked_at(
    symmetric: SimulatedSet, symmetry: str
) -> None:
    """Views around the last one would be further apart than those it was found among."""
    noisy, volume = white_set(symmetric.particles), torch.from_numpy(symmetric.volume)
    settings = Settings(DIAMETER_PX, symmetry=symmetry, max_shift_px=MAX_SHIFT_PX, start_radius_px=4.0)
    once, closely = lay_on(noisy, volume, settings), lay_closely(noisy, volume, settings, 4.0)
    assert np.array_equal(once.poses.rotations, closely.poses.rotations)


def test_shifts_are_right(symmetric: SimulatedSet, laid: Laid) -> None:
    distance = np.linalg.norm(laid.poses.shifts_px - symmetric.poses.shifts_px, axis=1)
    unmoved = np.linalg.norm(symmetric.poses.shifts_px, axis=1)
    assert np.median(distance) < 0.5 < np.median(unmoved)
    assert float(np.mean(distance < 1.0)) > 0.95


def test_confidence_is_a_probability_and_high(laid: Laid) -> None:
    confidence = laid.confidence
    assert confidence.shape == (COUNT,)
    assert 0 <= confidence.min() <= confidence.max() <= 1.0001
    assert np.median(confidence) > 0.6


def test_only_the_views_of_one_unit_are_looked_at(laid: Laid, symmetry: str) -> None:
    """From the front or from behind: mirror images stand for the other side."""
    front = so3.view_directions(laid.poses.rotations)
    group, margin = so3.symmetry_rotations(symmetry), np.deg2rad(GLOBAL_SPACING_DEG / 2)
    looks = [in_asymmetric_unit(side, group, mirrored=True, margin=margin) for side in (front, -front)]
    assert (looks[0] | looks[1]).all()
    assert looks[0].any()
    assert looks[1].any()


def test_a_group_the_molecule_has_not_leaves_particles_without_their_view(
    symmetric: SimulatedSet, laid: Laid, symmetry: str
) -> None:
    larger = {"C4": "C8", "D2": "D4", "T": "O"}[symmetry]
    settings = Settings(DIAMETER_PX, symmetry=larger, max_shift_px=MAX_SHIFT_PX, start_radius_px=11.0)
    other = lay_on(white_set(symmetric.particles), torch.from_numpy(symmetric.volume), settings)
    true = symmetric.poses.rotations
    right, wrong = (errors_deg(found.rotations, true, symmetry) for found in (laid.poses, other.poses))
    assert float(np.mean(wrong > GLOBAL_SPACING_DEG)) > 0.15 > 10 * float(np.mean(right > GLOBAL_SPACING_DEG))
