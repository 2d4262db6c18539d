"""The slice theorem on blobs that are turned in closed form, against direct sums, with its adjoint and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.geometry.blobs import (
    CENTRES,
    blob_projections,
    blob_volume,
    fourier_sum,
    inner,
    relative_error,
    seeded,
)

from clarice.geometry import so3
from clarice.geometry.fourier import centred_fft2, frequency_grid, radius_grid
from clarice.geometry.slices import backproject, project, slice_frequencies

ROTATIONS = so3.random_rotations(6, seeded(11))


@pytest.mark.parametrize("box", [24, 25])
def test_projections_of_turned_blobs(box: int) -> None:
    found, expected = project(blob_volume(box), ROTATIONS), blob_projections(box, ROTATIONS)
    assert found.shape == (6, box, box)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.max()))


@pytest.mark.parametrize("box", [8, 9])
def test_slice_theorem_by_direct_sums(box: int) -> None:
    volume = torch.randn((box, box, box), generator=seeded())
    fy, fx = frequency_grid(box)
    inside = radius_grid(box) < box / 2
    spectra = centred_fft2(project(volume, ROTATIONS))
    assert float(spectra[:, ~inside].abs().max()) < 1e-3
    # The Nyquist row of an even box holds conjugates of itself; the disk leaves it out.
    for rotation, spectrum in zip(ROTATIONS, spectra, strict=True):
        q = torch.tensor([(rotation.T @ [x, y, 0.0]).tolist() for y, x in zip(fy[inside], fx[inside], strict=True)])
        assert relative_error(spectrum[inside], fourier_sum(volume, q)) < 1e-4


def test_slice_frequencies_by_loops() -> None:
    fx, fy = torch.tensor([0.1, 0.0, 0.3]), torch.tensor([0.0, 0.2, -0.1])
    found = slice_frequencies(ROTATIONS, fx, fy)
    for i, rotation in enumerate(ROTATIONS):
        for j in range(3):
            np.testing.assert_allclose(found[i, j], rotation.T @ [float(fx[j]), float(fy[j]), 0.0], atol=1e-6)


def test_identity_sums_along_z() -> None:
    volume = blob_volume(25)
    torch.testing.assert_close(project(volume, np.eye(3)[None])[0], volume.sum(dim=0), rtol=0, atol=5e-3)


def test_turning_the_view_turns_the_picture() -> None:
    volume = blob_volume(25)
    before, after = project(volume, np.stack([ROTATIONS[0], so3.in_plane(90.0) @ ROTATIONS[0]]))
    # +90° takes +x to +y: pixel (y, x) goes to (x, −y), a rotation of the array from axis 1 to axis 0.
    torch.testing.assert_close(after, torch.rot90(before, 1, dims=(1, 0)), rtol=0, atol=1e-3)


def test_a_view_from_behind_is_the_mirror_image() -> None:
    volume = blob_volume(25)
    front, behind = project(volume, np.stack([ROTATIONS[1], np.diag([1.0, -1, -1]) @ ROTATIONS[1]]))
    torch.testing.assert_close(behind, front.flip(0), rtol=0, atol=1e-3)


def test_symmetry_of_the_molecule_leaves_views_alone() -> None:
    group = so3.symmetry_rotations("D3")
    centres = np.concatenate([CENTRES @ g.T for g in group])
    volume = blob_volume(24, centres, np.ones(len(centres)))
    views = project(volume, ROTATIONS[0] @ group)
    for view in views[1:]:
        assert relative_error(view, views[0]) < 3e-3


@pytest.mark.parametrize("box", [12, 13])
def test_backproject_is_the_adjoint(box: int) -> None:
    volume = torch.randn((box, box, box), generator=seeded())
    images = torch.randn((6, box, box), generator=seeded(1))
    back = backproject(images, ROTATIONS, box)
    assert back.shape == (box, box, box)
    left, right = inner(project(volume, ROTATIONS), images).real, inner(volume, back).real
    assert left == pytest.approx(right, rel=1e-3)


@pytest.mark.parametrize("box", [8, 9])
def test_gradient_is_the_adjoint_of_the_residual(box: int) -> None:
    volume = torch.randn((box, box, box), generator=seeded(), requires_grad=True)
    target = torch.randn((6, box, box), generator=seeded(1))
    residual = project(volume, ROTATIONS) - target
    (0.5 * residual.square().sum()).backward()
    assert volume.grad is not None
    assert relative_error(volume.grad, backproject(residual.detach(), ROTATIONS, box)) < 1e-4


def test_gradient_through_backprojection() -> None:
    images = torch.randn((6, 9, 9), generator=seeded(), requires_grad=True)
    direction = torch.randn((9, 9, 9), generator=seeded(1))
    (backproject(images, ROTATIONS, 9) * direction).sum().backward()
    assert images.grad is not None
    assert relative_error(images.grad, project(direction, ROTATIONS)) < 1e-4


def test_another_box_is_refused() -> None:
    with pytest.raises(ValueError, match="16 px"):
        backproject(torch.zeros(6, 16, 16), ROTATIONS, 24)


def test_twice_the_same_bit_for_bit() -> None:
    volume = blob_volume(24)
    images = project(volume, ROTATIONS)
    assert torch.equal(images, project(volume, ROTATIONS))
    assert torch.equal(backproject(images, ROTATIONS, 24), backproject(images, ROTATIONS, 24))
