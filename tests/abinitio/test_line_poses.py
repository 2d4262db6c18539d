"""From clean images to poses by common lines: centres of mass, shifts along lines, and all together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.abinitio.lines import true_lines
from tests.geometry.blobs import blob_projections, seeded

from clarice.abinitio.line_poses import poses_from_lines
from clarice.abinitio.line_scores import LineSettings
from clarice.abinitio.line_shifts import mass_centres, moved, shifts_along_lines
from clarice.abinitio.synchronize import consensus
from clarice.core.particles import Poses
from clarice.geometry.so3 import random_rotations
from clarice.metrics.orientation import orientation_errors
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate


def simulated(max_shift_px: float) -> SimulatedSet:
    settings = SimulationSettings(
        particles=60, box=32, seed=6, snr=1.0, ctf=False, noise="none", max_shift_px=max_shift_px
    )
    return simulate(make_molecule(1, mass_kda=150), settings)


def shift_error_px(poses: Poses, truth: SimulatedSet, mirrored: bool) -> float:
    """Root mean square of what one move of the structure does not explain."""
    difference = -(truth.poses.shifts_px - poses.shifts_px)
    axes = poses.rotations[:, :2].reshape(-1, 3)
    move = np.linalg.lstsq(axes, difference.reshape(-1), rcond=None)[0]
    return float(np.sqrt(np.mean((difference.reshape(-1) - axes @ move) ** 2)))


@pytest.mark.parametrize("box", [32, 33])
def test_the_centre_of_mass_is_found_wherever_it_lies(box: int) -> None:
    images = blob_projections(box, random_rotations(6, seeded(1)))
    shifts = torch.tensor([[0, 0], [5, 0], [0, -5], [3, 3], [-2.5, 1.5], [0.3, -0.7]])
    centres = mass_centres(images, 14.0, 8.0)
    found = mass_centres(moved(images, shifts), 14.0, 8.0)
    torch.testing.assert_close(found - centres, shifts, atol=0.02, rtol=0)
    assert float(mass_centres(moved(images, shifts), 14.0, 2.0).abs().max()) == 2.0


def test_an_image_without_mass_stays_where_it_is() -> None:
    assert (mass_centres(torch.zeros((2, 16, 16)), 8.0, 4.0) == 0).all()
    assert mass_centres(-torch.ones((1, 16, 16)), 8.0, 4.0).isfinite().all()


def test_shifts_follow_from_differences_along_lines() -> None:
    """Wrong differences of wrong lines, and one move of the structure, change nothing."""
    rotations = random_rotations(40, seeded(2))
    lines = true_lines(rotations)
    found = consensus(lines)
    shifts = 2 * torch.randn((40, 2), generator=seeded(3), dtype=torch.float64)
    along = (lines.directions().double() * shifts[:, None]).sum(dim=-1)
    difference = along - along.T
    wrong = torch.rand((40, 40), generator=seeded(4)).triu(1) > 0.8
    difference = torch.where(wrong, difference + 5, difference)
    difference = difference.triu(1) - difference.triu(1).T
    rest = (shifts - shifts_along_lines(found, difference)).reshape(-1)
    axes = found.rotations[:, :2].reshape(-1, 3)
    rest = rest - axes @ torch.linalg.lstsq(axes, rest[:, None]).solution[:, 0]
    assert float(rest.square().mean().sqrt()) < 0.05


@pytest.mark.parametrize("max_shift_px", [0.0, 3.0])
def test_clean_images_give_their_poses(max_shift_px: float) -> None:
    """Shifts cost nothing."""
    truth = simulated(max_shift_px)
    found = poses_from_lines(torch.from_numpy(truth.images), LineSettings(0.7 * 32, max_shift_px=max_shift_px))
    errors = orientation_errors(found.poses.rotations, truth.poses.rotations)
    assert errors.angle_deg.mean() < 1
    assert found.found.share > 0.9
    assert shift_error_px(found.poses, truth, errors.mirrored) < 0.1


def test_an_image_that_fits_nowhere_is_an_outlier() -> None:
    images = torch.from_numpy(simulated(0.0).images).clone()
    images[17] = images.std() * torch.randn(images[17].shape, generator=seeded(5))
    found = poses_from_lines(images, LineSettings(0.7 * 32))
    assert found.outliers().nonzero()[0].tolist() == [17]


def test_two_images_are_refused() -> None:
    with pytest.raises(ValueError, match="three or more"):
        poses_from_lines(torch.zeros((2, 16, 16)), LineSettings(10.0))
