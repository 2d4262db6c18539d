from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.core.errors import InputError
from clarice.core.particles import Poses
from clarice.geometry.harmonics import BallBasis
from clarice.geometry.slices import project
from clarice.geometry.so3 import angle_between_deg, random_rotations, symmetry_rotations
from clarice.metrics.masks import low_pass, soft_sphere
from clarice.metrics.registration import (
    Registration,
    apply_superposition,
    carry_poses,
    correlation_in_sphere,
    register,
    resample,
)
from clarice.metrics.shells import fsc
from clarice.physics.molecules import make_molecule
from clarice.physics.potential import atoms_to_volume
from clarice.physics.simulate import default_pixel_size


def displaced(blob_map, rotation, shift, mirrored, **settings):
    """The map that `x_ref = rotation @ (h · x_map) + shift` carries onto the blob map itself."""
    hand = -1 if mirrored else 1
    return blob_map(rotation=rotation.T, shift_px=-hand * rotation.T @ shift, mirrored=mirrored, **settings)


@pytest.mark.parametrize("box", [31, 32])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_superposition_carries_the_map_onto_the_reference(blob_map, generator, box, mirrored):
    rotation, shift = random_rotations(1, generator)[0], np.array([1.3, -2.1, 0.6])
    moving = displaced(blob_map, rotation, shift, mirrored, box=box)
    carried = apply_superposition(moving, rotation, shift, mirrored)
    reference = blob_map(box=box)
    assert np.abs(carried - reference).max() < 0.01 * reference.max()


@pytest.mark.parametrize(("seed", "mirrored"), [(1, False), (2, True)])
def test_a_known_turn_shift_and_hand_are_found_in_a_blurred_noisy_map(blob_map, seed, mirrored):
    rotation = random_rotations(1, torch.Generator().manual_seed(seed))[0]
    shift = np.array([3.0, -2.5, 1.5])
    moving = low_pass(displaced(blob_map, rotation, shift, mirrored, seed=seed), 6.0)
    moving += moving.std() * np.random.default_rng(seed).normal(size=moving.shape)
    found = register(moving, blob_map(seed=seed))
    assert found.mirrored is mirrored
    assert angle_between_deg(found.rotation, rotation) < 1
    assert np.abs(found.shift_px - shift).max() < 0.2
    assert found.correlation == correlation_in_sphere(found.volume, blob_map(seed=seed))
    assert found.correlation > found.other_hand_correlation + 0.05
    assert fsc(found.volume, blob_map(seed=seed))[:7].min() > 0.6


@pytest.mark.parametrize("swapped", [False, True])
def test_a_map_that_ends_at_a_few_shells_is_laid_by_these(swapped):
    """Beyond its last shell such a map holds the tails of its finite extent alone, which agree with nothing."""
    molecule = make_molecule(11, mass_kda=200).centred()
    whole = atoms_to_volume(molecule, 64, default_pixel_size(molecule, 64))
    ball = BallBasis(64, 22.0, 5.5)
    coarse = ball.to_volume(ball.of_volume(whole)).numpy()
    rotation = random_rotations(1, torch.Generator().manual_seed(3))[0]
    turned = apply_superposition(coarse, rotation, np.zeros(3), True)
    maps = (whole.numpy(), turned) if swapped else (turned, whole.numpy())
    found = register(*maps)
    assert fsc(found.volume, maps[1])[1:5].min() > 0.95
    assert found.mirrored


def test_a_wrong_structure_stays_below_a_right_one(blob_map, generator):
    rotation = random_rotations(1, generator)[0]
    moving = blob_map(box=32, seed=3, rotation=rotation)
    right, wrong = (register(moving, blob_map(box=32, seed=seed)) for seed in (3, 4))
    assert right.correlation > 0.98
    assert wrong.correlation < 0.85
    assert fsc(wrong.volume, blob_map(box=32, seed=4))[6:12].mean() < 0.5


def test_the_hand_is_kept_when_mirrors_are_forbidden(blob_map):
    found = register(blob_map(box=32, mirrored=True), blob_map(box=32), allow_mirror=False)
    assert not found.mirrored
    assert found.other_hand_correlation is None
    assert found.correlation < 0.95


def test_a_symmetric_structure_is_laid_on_one_of_its_equivalents(blob_map, generator):
    group = symmetry_rotations("D2")
    reference = sum(blob_map(box=32, rotation=each, seed=5, count=20) for each in group)
    rotation = random_rotations(1, generator)[0]
    moving = sum(blob_map(box=32, rotation=rotation.T @ each, seed=5, count=20) for each in group)
    found = register(moving, reference)
    assert min(angle_between_deg(found.rotation, each @ rotation) for each in group) < 1
    assert found.correlation > 0.98


@pytest.mark.parametrize("mirrored", [False, True])
def test_poses_carry_over_with_their_projections(blob_map, generator, mirrored):
    rotation, shift = random_rotations(1, generator)[0], np.array([2.0, -1.5, 1.0])
    moving, reference = displaced(blob_map, rotation, shift, mirrored), blob_map()
    registration = Registration(reference, rotation, shift, mirrored, 1.0, None)
    rotations = random_rotations(3, generator)
    carried = carry_poses(Poses(rotations, np.zeros((3, 2))), registration)
    np.testing.assert_allclose(np.linalg.det(carried.rotations), 1)
    seen = project(torch.as_tensor(moving), rotations).numpy()
    expected = project(torch.as_tensor(reference), carried.rotations).numpy()
    axis = np.fft.fftfreq(48)
    for image, clean, (x, y) in zip(seen, expected, carried.shifts_px, strict=True):
        # Content sits at x_view − shift: the image is the centred projection moved by −shift.
        phase = np.exp(2j * np.pi * (axis * x + axis[:, None] * y))
        moved = np.fft.ifft2(np.fft.fft2(clean) * phase).real
        assert np.abs(moved - image).max() < 0.02 * image.max()


@pytest.mark.parametrize(("box", "scale"), [(24, 2.0), (33, 1.5), (60, 0.8)])
def test_resampling_keeps_grey_values_and_place(box, scale):
    def ball(edge, radius, centre):
        z, y, x = np.meshgrid(*(np.arange(edge) - edge // 2,) * 3, indexing="ij")
        return np.exp(-((x - centre) ** 2 + y**2 + (z + centre) ** 2) / (2 * radius**2))

    coarse = resample(ball(48, 4.0, 3.0), box, scale)
    np.testing.assert_allclose(coarse, ball(box, 4.0 / scale, 3.0 / scale), atol=2e-3)


@pytest.mark.parametrize(
    ("volume", "says"),
    [
        (np.zeros((16, 16, 16)), "constant"),
        (np.full((16, 16, 16), np.nan), "not numbers"),
        (np.ones((16, 16)), "cube"),
        (soft_sphere(20, 4, 2), "resample"),
    ],
)
def test_unfit_maps_are_refused(volume, says):
    with pytest.raises(InputError, match=says):
        register(volume, soft_sphere(16, 4, 2))
