"""Polar forms: direct sums, turning as shifting, mirrors, Parseval, and the way back."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from tests.geometry.blobs import (
    CENTRES,
    HEIGHTS,
    WIDTH,
    FloatArray,
    blob_image,
    fourier_sum,
    inner,
    relative_error,
    seeded,
)
from torch import Tensor

from clarice.geometry import so3
from clarice.geometry.fourier import radius_grid
from clarice.geometry.polar import FourierRings, RealPolarGrid, from_hartley, hartley

RINGS = (1.0, 2.0, 3.5, 6.0)


BALANCED = np.array([1.0, -0.7, 0.5, -0.8])


def turned(degrees: float, box: int, heights: FloatArray = HEIGHTS) -> Tensor:
    return blob_image(box, CENTRES @ so3.in_plane(degrees).T, heights)


@pytest.mark.parametrize("box", [16, 17])
def test_rings_by_direct_sums(box: int) -> None:
    rings = FourierRings(box, RINGS, 12)
    images = torch.randn((3, box, box), generator=seeded())
    found = rings.sample(images)
    assert found.shape == (3, 4, 6)
    points = [
        (radius / box * math.cos(2 * math.pi * t / 12), radius / box * math.sin(2 * math.pi * t / 12))
        for radius in RINGS
        for t in range(6)
    ]
    torch.testing.assert_close(rings.frequencies(), torch.tensor(points), rtol=0, atol=1e-7)
    assert relative_error(found.flatten(1), fourier_sum(images, torch.tensor(points))) < 1e-4


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("steps", [1, 5, 12, 19])
def test_turning_the_content_shifts_the_angles(box: int, steps: int) -> None:
    rings = FourierRings.up_to(box, 8.0, 16.0)
    before, after = (hartley(rings.sample(turned(a, box)[None])) for a in (0.0, 360 * steps / rings.n_angles))
    assert relative_error(after, before.roll(steps, dims=-1)) < 2e-3
    assert relative_error(after, before.roll(-steps, dims=-1)) > 0.1


@pytest.mark.parametrize("box", [24, 25])
def test_mirroring_the_content_reverses_the_angles(box: int) -> None:
    rings = FourierRings.up_to(box, 8.0, 16.0)
    before = hartley(rings.sample(turned(0, box)[None]))
    mirrored = hartley(rings.sample(blob_image(box, CENTRES * [1, -1, 1])[None]))
    assert relative_error(mirrored, before.flip(-1).roll(1, dims=-1)) < 2e-3


@pytest.mark.parametrize("box", [24, 25])
def test_shift_phases_move_the_content(box: int) -> None:
    rings = FourierRings.up_to(box, 8.0, 16.0)
    shifts = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-0.5, 2.25]])
    moved = torch.stack([blob_image(box, CENTRES[:, :2] + s) for s in shifts.numpy()])
    phases = rings.shift_phases(shifts)
    assert phases.shape == (3, rings.count, rings.n_angles // 2)
    assert relative_error(rings.sample(moved), rings.sample(moved[:1]) * phases) < 1e-3


@pytest.mark.parametrize("box", [16, 17])
def test_sample_adjoint(box: int) -> None:
    rings = FourierRings(box, RINGS, 12)
    images = torch.randn((3, box, box), generator=seeded())
    values = torch.randn((3, 4, 6), generator=seeded(1), dtype=torch.complex64)
    back = rings.sample_adjoint(values)
    assert back.dtype == torch.float32
    assert inner(rings.sample(images), values).real == pytest.approx(inner(images, back).real, rel=1e-4)


@pytest.mark.parametrize("box", [8, 9])
def test_gradient_of_sample(box: int) -> None:
    rings = FourierRings(box, (1.0, 2.0, 3.0), 8)
    images = torch.randn((2, box, box), generator=seeded(), requires_grad=True)
    target = torch.randn((2, 3, 4), generator=seeded(1), dtype=torch.complex64)
    (rings.sample(images) - target).abs().square().sum().backward()
    expected = 2 * rings.sample_adjoint((rings.sample(images) - target).detach())
    assert images.grad is not None
    assert relative_error(images.grad, expected) < 1e-4


@pytest.mark.parametrize("box", [32, 33])
def test_area_weights_keep_the_energy(box: int) -> None:
    rings = FourierRings.up_to(box, box // 2, 20.0)
    images = torch.stack([turned(a, box, BALANCED) for a in (0.0, 33.0)])
    values = hartley(rings.sample(images)).square().sum(dim=-1)
    energy = (values * rings.area_weights()).sum(dim=-1)
    torch.testing.assert_close(energy, images.square().sum(dim=(1, 2)), rtol=0.02, atol=0)


@pytest.mark.parametrize("box", [32, 33])
def test_images_come_back_from_their_rings(box: int) -> None:
    rings = FourierRings.up_to(box, box // 2, 20.0)
    images = torch.stack([turned(a, box, BALANCED) for a in (0.0, 33.0)])
    centred = torch.from_numpy(np.hypot(*np.indices((box, box)) - box // 2)) < 10
    back = rings.to_images(rings.sample(images))
    assert relative_error(back[:, centred], images[:, centred]) < 0.03


def test_ring_grid_sizes() -> None:
    rings = FourierRings.up_to(64, 10.7, 40.0)
    assert rings.radii == tuple(float(r) for r in range(1, 11))
    assert rings.n_angles % 8 == 0
    assert FourierRings.up_to(64, 0.5, 40.0).radii == (1.0,)


@pytest.mark.parametrize(("radius", "diameter"), [(8.0, 20.0), (16.0, 40.0)])
def test_angles_are_enough_for_the_content(radius: float, diameter: float) -> None:
    """White content inside the diameter holds next to nothing beyond the angular Nyquist frequency."""
    rings = FourierRings.up_to(48, radius, diameter)
    twice = FourierRings(48, rings.radii, 2 * rings.n_angles)
    distance = torch.from_numpy(np.hypot(*np.indices((48, 48)) - 24))
    images = torch.randn((8, 48, 48), generator=seeded()) * (distance <= diameter / 2)
    power = torch.fft.rfft(hartley(twice.sample(images))).abs().square().sum(dim=(0, 1))
    assert float(power[rings.n_angles // 2 :].sum() / power.sum()) < 1e-5


def test_noise_from_outside_the_particle_does_not_fold_into_the_scores() -> None:
    """Angular correlations of box-filling noise with a small reference, against those on four times the angles."""
    box, diameter = 48, 16.0
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((20, box, box), generator=generator)
    reference = torch.randn((1, box, box), generator=generator) * (radius_grid(box) <= diameter / 2)
    radius = 20.0

    def scores(rings: FourierRings) -> Tensor:
        a, b = rings.sample(noise)[:, -1], rings.sample(reference)[:, -1]
        return (a * b.conj()).real.mean(dim=-1)

    fine = replace(FourierRings.matching(box, radius, diameter), n_angles=512)
    exact = scores(fine)
    enough, few = (
        scores(rings)
        for rings in (FourierRings.matching(box, radius, diameter), FourierRings.up_to(box, radius, diameter))
    )
    scale = exact.square().mean().sqrt()
    assert float((enough - exact).square().mean().sqrt() / scale) < 0.2
    assert float((few - exact).square().mean().sqrt() / scale) > 0.4


def test_hartley_walk() -> None:
    values = torch.randn((3, 4, 6), generator=seeded(), dtype=torch.complex64)
    torch.testing.assert_close(from_hartley(hartley(values)), values)
    signals = torch.randn((3, 4, 12), generator=seeded(1))
    torch.testing.assert_close(hartley(from_hartley(signals)), signals)


def test_hartley_correlation_is_the_complex_one() -> None:
    a, b = torch.randn((2, 5, 6), generator=seeded(), dtype=torch.complex64)
    full_a, full_b = (torch.cat([x, x.conj()], dim=-1) for x in (a, b))
    for shift in range(12):
        expected = (full_a.roll(-shift, dims=-1) * full_b.conj()).sum()
        found = (hartley(a[None])[0].roll(-shift, dims=-1) * hartley(b[None])[0]).sum()
        assert found.item() == pytest.approx(expected.real.item(), abs=1e-4)
        assert expected.imag.item() == pytest.approx(0, abs=1e-4)


def plain_radial_basis(grid: RealPolarGrid, inverse: bool) -> Tensor:
    """The weights entry by entry: (points, pixels), or (pixels, points) for the way back."""
    spacing = grid.max_radius_px / grid.n_rings
    width = max(grid.sigma_px, spacing / 2, math.pi * grid.max_radius_px / grid.n_angles / 2 if inverse else 0)
    centre = grid.box // 2
    matrix = torch.zeros(grid.n_rings * grid.n_angles, grid.box**2, dtype=torch.float64)
    for p in range(len(matrix)):
        radius, angle = (p // grid.n_angles + 0.5) * spacing, 2 * math.pi * (p % grid.n_angles) / grid.n_angles
        x, y = centre + radius * math.cos(angle), centre + radius * math.sin(angle)
        for q in range(grid.box**2):
            distance = math.hypot(q % grid.box - x, q // grid.box - y)
            if distance < 4 * width + 1e-6:
                matrix[p, q] = math.exp(-(distance**2) / (2 * width**2)) * (radius if inverse else 1)
    if inverse:
        matrix = matrix.T.clone()
        for q in range(grid.box**2):
            if math.hypot(q % grid.box - centre, q // grid.box - centre) > grid.max_radius_px:
                matrix[q] = 0
    return matrix / matrix.sum(dim=1, keepdim=True).clamp_min(1e-12)


# The second grid's points fall on pixels; the third reaches over the edge of the box.
GRIDS = [RealPolarGrid(13, 5, 16, 5.5), RealPolarGrid(12, 2, 8, 4.0), RealPolarGrid(12, 6, 20, 7.0, 0.8)]


@pytest.mark.parametrize("grid", GRIDS)
def test_radial_basis_entry_by_entry(grid: RealPolarGrid) -> None:
    images = torch.randn((2, grid.box, grid.box), generator=seeded())
    polar = torch.randn((2, grid.n_rings, grid.n_angles), generator=seeded(1))
    forward = images.double().flatten(1) @ plain_radial_basis(grid, inverse=False).T
    torch.testing.assert_close(grid.to_polar(images), forward.view_as(polar).float(), rtol=1e-5, atol=1e-5)
    back = polar.double().flatten(1) @ plain_radial_basis(grid, inverse=True).T
    torch.testing.assert_close(grid.to_cartesian(polar), back.view_as(images).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("box", [24, 25])
def test_real_polar_walk(box: int) -> None:
    grid = RealPolarGrid(box, 20, 96, 11.0)
    axis = torch.arange(box) - box // 2
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    images = torch.exp(-((x - 2) ** 2 + (y + 3) ** 2) / (2 * 3.0**2))[None]
    back = grid.to_cartesian(grid.to_polar(images))
    inside = torch.hypot(x.float(), y.float()) <= 9
    assert relative_error(back[:, inside], images[:, inside]) < 0.1
    assert float(back[:, torch.hypot(x.float(), y.float()) > 11].abs().max()) == 0
    constant = torch.full((1, box, box), 3.0)
    torch.testing.assert_close(grid.to_polar(constant), torch.full((1, 20, 96), 3.0))
    back = grid.to_cartesian(torch.full((1, 20, 96), 3.0))
    torch.testing.assert_close(back[:, inside], constant[:, inside], rtol=1e-5, atol=0)


@pytest.mark.parametrize("box", [24, 25])
def test_real_polar_turns_and_mirrors(box: int) -> None:
    grid = RealPolarGrid(box, 9, 48, 10.0)
    before, after = (grid.to_polar(turned(a, box)[None]) for a in (0.0, 45.0))
    # A blob this sharp feels the pixel grid a little; a turn by one angle step would change it ten times more.
    assert relative_error(after, before.roll(6, dims=-1)) < 0.05
    mirrored = grid.to_polar(blob_image(box, CENTRES * [1, -1, 1])[None])
    torch.testing.assert_close(mirrored, before.flip(-1).roll(1, dims=-1), rtol=0, atol=1e-4)
    quarter = grid.to_polar(turned(90.0, box)[None])
    torch.testing.assert_close(quarter, before.roll(12, dims=-1), rtol=0, atol=1e-4)


def test_real_polar_is_differentiable() -> None:
    grid = GRIDS[0]
    images = torch.randn((2, 13, 13), generator=seeded(), requires_grad=True)
    polar = torch.randn((2, 5, 16), generator=seeded(1), requires_grad=True)
    (grid.to_polar(images) * polar.detach()).sum().backward()
    assert images.grad is not None
    expected = polar.detach().flatten(1) @ plain_radial_basis(grid, inverse=False).float()
    torch.testing.assert_close(images.grad, expected.view_as(images), rtol=1e-4, atol=1e-5)
    (grid.to_cartesian(polar) * images.detach()).sum().backward()
    assert polar.grad is not None
    expected = images.detach().flatten(1) @ plain_radial_basis(grid, inverse=True).float()
    torch.testing.assert_close(polar.grad, expected.view_as(polar), rtol=1e-4, atol=1e-5)


def test_a_large_box_needs_no_dense_matrix() -> None:
    """128 pixels and 64 × 256 points: the dense distances alone would take 2 GB."""
    grid = RealPolarGrid(128, 64, 256, 60.0)
    image = torch.exp(-((torch.arange(128) - 64) ** 2) / (2 * (8 * WIDTH) ** 2))
    assert grid.to_polar((image[:, None] * image)[None]).shape == (1, 64, 256)


def test_bilinear_resampling_is_that_of_scipy() -> None:
    box, rings, angles = 20, 6, 24
    grid = RealPolarGrid(box, rings, angles, 7.0, basis="bilinear")
    images = torch.randn((2, box, box), generator=seeded())
    x, y = grid.points().T.numpy()
    expected = np.stack([map_coordinates(image.numpy(), [y, x], order=1) for image in images])
    np.testing.assert_allclose(grid.to_polar(images).numpy(), expected.reshape(2, rings, angles), atol=1e-5)


def test_bilinear_images_are_interpolated_between_rings_and_angles() -> None:
    box, rings, angles = 20, 6, 24
    grid = RealPolarGrid(box, rings, angles, 7.0, basis="bilinear")
    polar = torch.randn((1, rings, angles), generator=seeded())
    y, x = np.indices((box, box)) - box // 2
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    ring = np.clip(radius * rings / 7.0 - 0.5, 0, rings - 1)
    periodic = np.concatenate([polar[0].numpy(), polar[0, :, :1].numpy()], axis=1)
    expected = map_coordinates(periodic, [ring, theta % (2 * np.pi) * angles / (2 * np.pi)], order=1)
    expected = np.where(radius <= 7.0, expected, 0)
    expected[box // 2, box // 2] = polar[0, 0].mean()
    np.testing.assert_allclose(grid.to_cartesian(polar)[0].numpy(), expected, atol=1e-5)


def test_bilinear_rings_beyond_the_box_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond a box of 20 px"):
        RealPolarGrid(20, 6, 24, 9.5, basis="bilinear")
