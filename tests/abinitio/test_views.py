"""Reference rings of a map's projections, and the poses an expectation step finds on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from tests.geometry.blobs import CENTRES, FloatArray, blob_image, blob_projections, blob_volume, relative_error, seeded
from torch import Tensor

from clarice.abinitio.reconstruct import solve_map, spectral_prior
from clarice.abinitio.views import BEHIND, REPRESENTATIVE_AXIS, ViewGrid, in_asymmetric_unit, samples_at_once
from clarice.geometry import so3
from clarice.geometry.expectation import Expectation, RingStack, expectation, shift_grid
from clarice.geometry.fourier import fourier_resize
from clarice.geometry.polar import FourierRings, hartley
from clarice.geometry.slices import project
from clarice.metrics.shells import fsc

TURN = so3.random_rotations(1, seeded(20))[0]
NO_SHIFT = torch.zeros(1, 2)


def match(images: Tensor, grid: ViewGrid, volume: Tensor, mirror: bool, shifts: Tensor = NO_SHIFT) -> Expectation:
    stack = RingStack.of(images, None, grid.rings)
    return expectation(stack, grid.references(volume), shifts, mirror=mirror)


@pytest.mark.parametrize("box", [24, 25])
def test_references_are_rings_of_projections(box: int) -> None:
    volume, rings = blob_volume(box), FourierRings.up_to(box, 9.0, 16.0)
    grid = ViewGrid(so3.random_rotations(5, seeded()), rings, box)
    expected = hartley(rings.sample(project(volume, grid.rotations)))
    assert grid.references(volume).shape == (5, rings.count, rings.n_angles)
    assert relative_error(grid.references(volume), expected) < 1e-3
    assert relative_error(grid.references(volume), hartley(rings.sample(blob_projections(box, grid.rotations)))) < 3e-3


@pytest.mark.parametrize(("box", "small"), [(32, 24), (33, 24), (32, 25), (33, 27)])
def test_a_cropped_map_gives_the_same_references(box: int, small: int) -> None:
    volume, rings = blob_volume(box), FourierRings.up_to(box, 9.0, 16.0)
    rotations = so3.random_rotations(5, seeded())
    cropped = fourier_resize(volume, small, 3) * (box / small) ** 3
    expected = ViewGrid(rotations, rings, box).references(volume)
    assert relative_error(ViewGrid(rotations, rings, small).references(cropped), expected) < 0.01


@pytest.mark.parametrize("spacing", [10.0, 20.0])
@pytest.mark.parametrize("symmetry", ["C1", "C4", "D3", "O"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_grids_of_views(spacing: float, symmetry: str, mirrored: bool) -> None:
    """Every direction has a view, a copy of one, or the back of one near it, and there are no more than needed."""
    rings, group = FourierRings.up_to(24, 5.0, 16.0), so3.symmetry_rotations(symmetry)
    grid = ViewGrid.spread(spacing, rings, 24, TURN, group, mirrored=mirrored)
    copies = (so3.view_directions(grid.rotations) @ group).reshape(-1, 3)
    if mirrored:
        copies = np.concatenate([copies, -copies])
    anywhere = so3.view_directions(so3.random_rotations(2000, seeded(1)))
    worst = np.rad2deg(np.arccos((anywhere @ copies.T).max(axis=1).clip(-1, 1))).max()
    assert worst < 1.25 * spacing
    whole = len(so3.sphere_grid_spaced(spacing)) / len(group) / (2 if mirrored else 1)
    # Half a step on either side of an edge of perimeter √area · (3.5 for a disk, to 6) is 1.8 to 3 · √whole more.
    edge = 0.0 if len(group) == 1 else 3.5 * np.sqrt(whole)
    assert 0.9 * whole < len(grid) < 1.1 * whole + edge + 2


EVERY_FAMILY = ["C1", "C4", "D7", "T", "O", "I"]


def copies_of(directions: FloatArray, group: FloatArray, mirrored: bool) -> FloatArray:
    copies = (directions @ group).reshape(-1, 3)
    return np.asarray(np.concatenate([copies, -copies]) if mirrored else copies)


def smallest_angle(directions: FloatArray, others: FloatArray) -> FloatArray:
    """Angle in radians from each direction to the nearest of the others."""
    chord, _ = cKDTree(others).query(directions)
    return np.asarray(2 * np.arcsin(chord / 2))


@pytest.mark.parametrize("symmetry", EVERY_FAMILY)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_unit_and_its_margin_cover_the_sphere_and_hold_little_more(symmetry: str, mirrored: bool) -> None:
    spacing = np.deg2rad(5.0)
    group = so3.symmetry_rotations(symmetry)
    everywhere = so3.sphere_grid_spaced(5.0) @ TURN
    kept = everywhere[in_asymmetric_unit(everywhere, group, mirrored=mirrored, margin=spacing / 2)]
    anywhere = so3.view_directions(so3.random_rotations(3000, seeded(1)))
    assert smallest_angle(anywhere, copies_of(kept, group, mirrored)).max() < spacing
    whole = len(everywhere) / len(group) / (2 if mirrored else 1)
    assert 0.95 * whole < len(kept) < whole + 3.2 * np.sqrt(whole)


@pytest.mark.parametrize("symmetry", EVERY_FAMILY[1:])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_margin_of_the_unit_is_an_angle(symmetry: str, mirrored: bool) -> None:
    """Beside a plain search: which copy of each direction stands for it, and how far others lie from those."""
    margin, resolution = np.deg2rad(8.0), np.deg2rad(1.5)
    group = so3.symmetry_rotations(symmetry)
    everywhere = so3.sphere_grid_spaced(1.5) @ TURN
    copies = np.concatenate([group, -group]) if mirrored else group
    heights = np.stack([everywhere @ copy.T @ REPRESENTATIVE_AXIS for copy in copies])
    unit = everywhere[everywhere @ REPRESENTATIVE_AXIS > heights.max(axis=0) - 1e-9]
    np.testing.assert_array_equal(everywhere[in_asymmetric_unit(everywhere, group, mirrored=mirrored)], unit)
    kept = in_asymmetric_unit(everywhere, group, mirrored=mirrored, margin=margin)
    away = smallest_angle(everywhere, unit)
    assert kept[away < margin - resolution].all()
    # Beyond a corner the edges' own margins meet in a point, further away the sharper the corner is.
    strip = (away < margin + resolution) & (away > 0)
    outside = kept & (away > margin + resolution)
    assert outside.sum() < 0.25 * strip.sum() + 1
    assert away[kept].max() < 4 * margin


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("behind", [False, True])
def test_poses_on_the_grid_come_back(box: int, behind: bool) -> None:
    """Images made from blobs turned by `in_plane(α) @ [BEHIND] @ view`, and shifted; peaks are not quite parabolas."""
    volume, rings = blob_volume(box), FourierRings.up_to(box, 9.0, 16.0)
    grid = ViewGrid.spread(30.0, rings, box, TURN, mirrored=True)
    chosen, steps = np.array([1, 4, 7, 9]), np.array([0, 3, 10, 21])
    views = BEHIND @ grid.rotations[chosen] if behind else grid.rotations[chosen]
    true = so3.in_plane(360.0 * steps / rings.n_angles) @ views
    shifts_px = np.array([[0.0, 0.0], [1.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])
    images = torch.stack([blob_image(box, (CENTRES @ r.T)[:, :2] - s) for r, s in zip(true, shifts_px, strict=True)])
    result = match(images, grid, volume, mirror=True, shifts=shift_grid(1.0, 1.0))
    assert result.mirrored.tolist() == [behind] * 4
    np.testing.assert_array_equal(result.reference, chosen)
    np.testing.assert_allclose(result.shift_px, shifts_px, atol=0.03)
    assert so3.angle_between_deg(grid.poses(result), true).max() < 0.03 * 360 / rings.n_angles


def nearest_deg(true: FloatArray, grid: ViewGrid, mirror: bool) -> FloatArray:
    """Angle from each rotation to the nearest one that the grid can express."""
    alphas = so3.in_plane(np.arange(grid.rings.n_angles) * 360.0 / grid.rings.n_angles)
    views = np.concatenate([grid.rotations, BEHIND @ grid.rotations]) if mirror else grid.rotations
    every = (alphas[:, None] @ views).reshape(-1, 3, 3)
    return np.asarray(so3.angle_between_deg(true[:, None], every[None]).min(axis=1))


@pytest.mark.parametrize("mirror", [False, True])
def test_random_poses_are_found_within_the_grid_spacing(mirror: bool) -> None:
    box, spacing = 24, 12.0
    volume, rings = blob_volume(box), FourierRings.up_to(box, 10.0, 16.0)
    grid = ViewGrid.spread(spacing, rings, box, TURN, mirrored=mirror)
    true = so3.random_rotations(40, seeded(2))
    result = match(blob_projections(box, true), grid, volume, mirror)
    error = so3.angle_between_deg(grid.poses(result), true)
    assert error.max() < spacing
    assert np.median(error) < 1.25 * np.median(nearest_deg(true, grid, mirror))
    assert 5 < int(result.mirrored.sum()) < 35 if mirror else not result.mirrored.any()


@pytest.mark.parametrize("box", [24, 25])
def test_views_sum_up_to_the_map(box: int) -> None:
    """Clean images at grid poses, half of them from behind: what the expectation step sums is the map."""
    volume, rings = 5 * blob_volume(box, width=0.6), FourierRings.up_to(box, 8.0, 16.0)
    grid = ViewGrid.spread(8.0, rings, box, TURN, mirrored=True)
    steps = torch.randint(rings.n_angles, (len(grid),), generator=seeded(3)).numpy()
    views = np.where((np.arange(len(grid)) % 2 == 0)[:, None, None], BEHIND @ grid.rotations, grid.rotations)
    true = so3.in_plane(360.0 * steps / rings.n_angles) @ views
    result = match(project(volume, true), grid, volume, mirror=True)
    assert so3.angle_between_deg(grid.poses(result), true).max() < 0.1 * 360 / rings.n_angles
    sums = grid.sums(result.numerator, result.denominator, np.eye(3)[None])
    found = solve_map(sums, 1e3 * spectral_prior(volume), iterations=40)
    assert fsc(found.numpy(), volume.numpy())[:8].min() > 0.99  # shell 8 lies half beyond the last ring
    references = grid.references(volume)
    assert relative_error(grid.references(found), references) < 0.03


@pytest.mark.parametrize(("volume_box", "at_once"), [(32, 2**20), (64, 2**20), (256, 256**3)])
def test_views_go_together_as_their_map_grows(volume_box: int, at_once: int) -> None:
    """Every block costs a transform of the whole map."""
    rings = FourierRings.up_to(64, 31.0, 45.0)
    grid = ViewGrid(np.broadcast_to(np.eye(3), (20_000, 3, 3)), rings, volume_box)
    assert samples_at_once(volume_box) == at_once
    parts = [part for part, _ in grid.blocks()]
    assert parts[0] == slice(0, at_once // len(rings.frequencies()))
    assert sum(len(range(*part.indices(len(grid)))) for part in parts) == len(grid)


def test_twice_the_same_bit_for_bit() -> None:
    volume, rings = blob_volume(24), FourierRings.up_to(24, 9.0, 16.0)
    grid = ViewGrid.spread(20.0, rings, 24, TURN, mirrored=True)
    images = blob_projections(24, so3.random_rotations(20, seeded(4)))

    def everything() -> tuple[Tensor, Tensor]:
        result = match(images, grid, volume, mirror=True)
        sums = grid.sums(result.numerator, result.denominator, so3.symmetry_rotations("C2"))
        return grid.references(volume), solve_map(sums, spectral_prior(volume))

    for once, again in zip(everything(), everything(), strict=True):
        assert torch.equal(once, again)
