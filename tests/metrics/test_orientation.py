from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from clarice.geometry.slices import project
from clarice.geometry.so3 import angle_between_deg, in_plane, random_rotations, symmetry_rotations
from clarice.metrics.orientation import (
    common_line_angles_deg,
    common_line_share,
    found_line_share,
    orientation_errors,
    view_and_in_plane_deg,
)

HALF_TURN = np.diag([-1.0, -1.0, 1.0])


def jittered(rotations, sigma_deg, seed=0):
    turns = np.random.default_rng(seed).normal(size=(len(rotations), 3)) * np.deg2rad(sigma_deg)
    return rotations @ Rotation.from_rotvec(turns).as_matrix()


@pytest.mark.parametrize("symmetry", ["C1", "C3", "D2", "O"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_gauge_a_hand_and_symmetric_choices_are_no_error(generator, symmetry, mirrored):
    true = random_rotations(120, generator)
    group = symmetry_rotations(symmetry)
    gauge = random_rotations(1, generator)[0]
    chosen = group[np.random.default_rng(0).integers(len(group), size=120)]
    found = true @ chosen @ gauge
    errors = orientation_errors(HALF_TURN @ found if mirrored else found, true, symmetry=symmetry)
    assert errors.angle_deg.max() < 1e-3
    assert errors.mirrored is mirrored
    assert errors.other_hand_median_deg > 10
    equivalents = [angle_between_deg(errors.gauge, member @ gauge) for member in group]
    assert min(equivalents) < 1e-3


@pytest.mark.parametrize("symmetry", ["C1", "D2"])
def test_the_gauge_stands_with_forty_per_cent_outliers(generator, symmetry):
    true = random_rotations(400, generator)
    gauge = random_rotations(1, generator)[0]
    found = jittered(true, 5.0) @ gauge
    found[::5] = random_rotations(80, generator)
    found[1::5] = random_rotations(80, generator)
    errors = orientation_errors(found, true, symmetry=symmetry)
    off = min(angle_between_deg(errors.gauge, member @ gauge) for member in symmetry_rotations(symmetry))
    assert off < 1.5
    good = np.ones(400, dtype=bool)
    good[::5] = good[1::5] = False
    # The angle of a rotation vector with three normal components of σ has the median 1.54 σ.
    assert np.median(errors.angle_deg[good]) == pytest.approx(1.54 * 5, rel=0.15)


def test_random_orientations_have_large_errors(generator):
    errors = orientation_errors(random_rotations(300, generator), random_rotations(300, generator))
    assert np.median(errors.angle_deg) > 80


def test_one_hand_is_tried_when_only_one_is_asked_for(generator):
    true = random_rotations(50, generator)
    errors = orientation_errors(HALF_TURN @ true, true, both_hands=False)
    assert not errors.mirrored
    assert errors.other_hand_median_deg is None
    assert np.median(errors.angle_deg) > 10


def test_errors_of_view_and_of_the_plane_are_told_apart(generator):
    rotations = random_rotations(20, generator)
    turned = in_plane(17.0) @ rotations
    view, plane = view_and_in_plane_deg(turned, rotations)
    np.testing.assert_allclose(view, 0, atol=1e-6)
    np.testing.assert_allclose(plane, 17)
    tilted = Rotation.from_rotvec([0.0, np.deg2rad(23.0), 0.0]).as_matrix() @ rotations
    view, plane = view_and_in_plane_deg(tilted, rotations)
    np.testing.assert_allclose(view, 23)
    np.testing.assert_allclose(plane, 0, atol=1e-6)


def test_projections_agree_along_their_common_line(blob_map, generator):
    """Fourier slice theorem: the transforms of two projections are equal on the line both contain."""
    volume = torch.as_tensor(blob_map(box=32))
    rotations = random_rotations(2, generator)
    images = project(volume, rotations).numpy()
    axis = np.arange(32) - 16
    rays = []
    for image, angle in zip(images, np.deg2rad(common_line_angles_deg(*rotations)), strict=True):
        radii = np.arange(1, 9) / 32
        phase = radii[:, None, None] * (axis * np.cos(angle) + axis[:, None] * np.sin(angle))
        rays.append((image * np.exp(-2j * np.pi * phase)).sum(axis=(1, 2)))
    assert np.abs(rays[0] - rays[1]).max() < 0.01 * np.abs(rays[0]).max()


def test_common_lines_need_no_gauge_and_no_hand(generator):
    true = random_rotations(30, generator)
    gauge = random_rotations(1, generator)[0]
    assert common_line_share(true @ gauge, true) == 1
    assert common_line_share(HALF_TURN @ true @ gauge, true) == 1
    assert common_line_share(random_rotations(30, generator), true) < 0.1
    assert 0.4 < common_line_share(jittered(true, 5.0), true) < 0.95


def test_common_lines_of_symmetric_structures(generator):
    true = random_rotations(30, generator)
    group = symmetry_rotations("C4")
    found = true @ group[np.random.default_rng(1).integers(4, size=30)]
    assert common_line_share(found, true, symmetry="C4") == 1
    assert common_line_share(found, true) < 0.7


def test_lines_that_were_found_are_judged_like_those_of_rotations(generator):
    true = random_rotations(12, generator)
    upper = np.triu(np.ones((12, 12), dtype=bool), 1)
    first, second = np.nonzero(upper)
    angle = np.zeros((12, 12))
    angle[first, second], angle[second, first] = np.deg2rad(common_line_angles_deg(true[first], true[second])).T
    assert found_line_share(angle, true) == 1
    assert found_line_share(angle + np.pi, true) == 1, "a line has two ends"
    assert found_line_share(angle + np.pi * upper, true) == 0, "they belong together"
    assert found_line_share(angle + np.deg2rad(9), true) == 1
    assert found_line_share(angle + np.deg2rad(11) * upper, true) == 0
    angle[0] += 1
    assert found_line_share(angle, true) == pytest.approx(1 - 11 / 66)


def test_pairs_are_drawn_by_seed_when_there_are_many(generator):
    true = random_rotations(60, generator)
    found = jittered(true, 8.0)
    whole, drawn = common_line_share(found, true), common_line_share(found, true, most_pairs=800, seed=3)
    assert drawn == common_line_share(found, true, most_pairs=800, seed=3)
    assert drawn == pytest.approx(whole, abs=0.08)


def test_sets_that_do_not_match_are_refused(generator):
    with pytest.raises(ValueError, match="cannot be compared"):
        orientation_errors(random_rotations(3, generator), random_rotations(4, generator))
    with pytest.raises(ValueError, match="two or more"):
        common_line_share(random_rotations(1, generator), random_rotations(1, generator))
