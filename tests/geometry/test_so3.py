"""Rotations: conversions as closed walks, grids that cover, groups that close."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from tests.geometry.blobs import FloatArray, seeded

from clarice.core.errors import UsageError
from clarice.geometry import so3

GROUPS = {"C1": 1, "C4": 4, "c7": 7, "D1": 2, "D2": 4, "D5": 10, "T": 12, "O": 24, "I": 60}


def is_rotation(matrices: FloatArray) -> bool:
    orthogonal = np.allclose(matrices @ np.swapaxes(matrices, -1, -2), np.eye(3), atol=1e-10)
    return orthogonal and np.allclose(np.linalg.det(matrices), 1, atol=1e-10)


def nearest_angle(directions: FloatArray, grid: FloatArray, rank: int = 0) -> FloatArray:
    """Angle in degrees from each direction to its nearest grid vector (`rank` 1: the second nearest)."""
    cosine = np.sort(directions @ grid.T, axis=1)[:, -1 - rank]
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


def test_euler_angles_of_elementary_turns() -> None:
    """R = Rz(−psi) Ry(−tilt) Rz(−rot): rot 90 takes +y of the molecule to +x of the view."""
    rot, tilt, psi = so3.euler_to_matrix(np.array([[90.0, 0, 0], [0, 90.0, 0], [0, 0, 90.0]]))
    np.testing.assert_allclose(rot @ [0, 1, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(psi, rot, atol=1e-12)
    np.testing.assert_allclose(tilt @ [1, 0, 0], [0, 0, 1], atol=1e-12)


def test_euler_walk_from_matrices() -> None:
    rotations = so3.random_rotations(500, seeded())
    euler = so3.matrix_to_euler(rotations)
    assert ((euler[:, 1] >= 0) & (euler[:, 1] <= 180)).all()
    np.testing.assert_allclose(so3.euler_to_matrix(euler), rotations, atol=1e-12)


def test_euler_walk_from_angles() -> None:
    generator = np.random.default_rng(0)
    euler = np.stack([generator.uniform(-179, 179, 200), generator.uniform(1, 179, 200),
                      generator.uniform(-179, 179, 200)], axis=1)  # fmt: skip
    np.testing.assert_allclose(so3.matrix_to_euler(so3.euler_to_matrix(euler)), euler, atol=1e-9)


@pytest.mark.parametrize("tilt", [0.0, 180.0, 1e-7, 180 - 1e-7])
@pytest.mark.parametrize(("rot", "psi"), [(0.0, 0.0), (70.0, -30.0), (-160.0, 170.0), (0.0, 90.0)])
def test_gimbal_lock(tilt: float, rot: float, psi: float) -> None:
    rotation = so3.euler_to_matrix(np.array([[rot, tilt, psi]]))
    euler = so3.matrix_to_euler(rotation)
    assert euler[0, 2] == 0
    np.testing.assert_allclose(so3.euler_to_matrix(euler), rotation, atol=1e-8)


def test_near_the_poles_no_precision_is_lost() -> None:
    euler = np.array([[40.0, 1e-4, 25.0], [40.0, 180 - 1e-4, 25.0]])
    rotations = so3.euler_to_matrix(euler)
    np.testing.assert_allclose(so3.euler_to_matrix(so3.matrix_to_euler(rotations)), rotations, atol=1e-9)


def test_random_rotations_are_uniform_and_seeded() -> None:
    rotations = so3.random_rotations(20_000, seeded(3))
    assert is_rotation(rotations)
    assert np.array_equal(rotations, so3.random_rotations(20_000, seeded(3)))
    assert not np.array_equal(rotations[:10], so3.random_rotations(10, seeded(4)))
    np.testing.assert_allclose(rotations.mean(axis=0), 0, atol=0.02)
    # Haar measure: the angle from any rotation has density (1 − cos ω) / π.
    angles = np.deg2rad(so3.angle_between_deg(rotations, np.eye(3)))
    for quantile in (0.1, 0.5, 0.9):
        omega = np.quantile(angles, quantile)
        assert (omega - np.sin(omega)) / np.pi == pytest.approx(quantile, abs=0.015)


def test_angle_between() -> None:
    rotations = so3.random_rotations(50, seeded(1))
    axis_turn = so3.in_plane(37.0)
    np.testing.assert_allclose(so3.angle_between_deg(rotations, axis_turn @ rotations), 37.0, atol=1e-6)
    np.testing.assert_allclose(so3.angle_between_deg(rotations, rotations), 0, atol=3e-6)
    np.testing.assert_allclose(so3.angle_between_deg(rotations, np.diag([1.0, -1, -1]) @ rotations), 180, atol=3e-6)
    table = so3.angle_between_deg(rotations[:4, None], rotations[None, :5])
    assert table.shape == (4, 5)
    np.testing.assert_allclose(table[:4, :4], table[:4, :4].T, atol=1e-9)


def test_view_directions_and_rotations_are_inverse() -> None:
    directions = so3.sphere_grid(200)
    for psi in (0.0, 55.0):
        rotations = so3.view_rotations(directions, psi)
        assert is_rotation(rotations)
        np.testing.assert_allclose(so3.view_directions(rotations), directions, atol=1e-12)
        np.testing.assert_allclose(so3.matrix_to_euler(rotations)[:, 2], psi, atol=1e-8)
    beam = so3.view_rotations(directions)
    np.testing.assert_allclose(beam @ directions[..., None], np.broadcast_to([[0], [0], [1]], (200, 3, 1)), atol=1e-12)


def test_in_plane_turns_x_towards_y() -> None:
    np.testing.assert_allclose(so3.in_plane(90.0) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    assert so3.in_plane(np.array([0.0, 10.0])).shape == (2, 3, 3)
    euler = so3.matrix_to_euler(so3.in_plane(20.0) @ so3.euler_to_matrix(np.array([[10.0, 40.0, 50.0]])))
    np.testing.assert_allclose(euler, [[10, 40, 30]], atol=1e-9)


@pytest.mark.parametrize("count", [50, 501, 3000])
def test_sphere_grid_is_quasi_uniform(count: int) -> None:
    grid = so3.sphere_grid(count)
    np.testing.assert_allclose(np.linalg.norm(grid, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(grid.mean(axis=0), 0, atol=2 / count)
    np.testing.assert_allclose(grid.T @ grid / count, np.eye(3) / 3, atol=2 / count)
    spacing = np.rad2deg(np.sqrt(4 * np.pi / count))
    neighbours = nearest_angle(grid, grid, rank=1)
    assert neighbours.min() > 0.7 * spacing
    assert neighbours.max() < 1.15 * spacing
    anywhere = so3.view_directions(so3.random_rotations(4000, seeded(2)))
    assert nearest_angle(anywhere, grid).max() < 0.95 * spacing


@pytest.mark.parametrize("spacing", [5.0, 12.0, 30.0])
def test_spaced_grids_keep_their_spacing(spacing: float) -> None:
    grid = so3.sphere_grid_spaced(spacing)
    assert np.median(nearest_angle(grid, grid, rank=1)) == pytest.approx(spacing, rel=0.12)


@pytest.mark.parametrize("spacing", [18.0, 25.0])
def test_rotation_grid_covers_all_rotations(spacing: float) -> None:
    grid = so3.rotation_grid(spacing)
    assert is_rotation(grid)
    anywhere = so3.random_rotations(300, seeded(5))
    nearest = so3.angle_between_deg(anywhere[:, None], grid[None]).min(axis=1)
    assert nearest.max() < spacing
    # As many as the volume of SO(3), 8π², holds cells of that edge.
    assert len(grid) == pytest.approx(8 * np.pi**2 / np.deg2rad(spacing) ** 3, rel=0.05)


def holds(group: FloatArray, rotation: FloatArray) -> bool:
    return bool(np.abs(group - rotation).max(axis=(1, 2)).min() < 1e-8)


@pytest.mark.parametrize(("name", "order"), GROUPS.items())
def test_symmetry_groups_are_groups(name: str, order: int) -> None:
    group = so3.symmetry_rotations(name)
    assert len(group) == order
    assert is_rotation(group)
    distances = np.abs(group[:, None] - group[None]).max(axis=(2, 3))
    assert (distances + 2 * np.eye(order)).min() > 1e-3
    assert holds(group, np.eye(3))
    for a in group:
        assert all(holds(group, a @ b) for b in group)
        assert holds(group, a.T)


@pytest.mark.parametrize(
    ("name", "axis", "fold"),
    [
        ("C5", (0, 0, 1), 5),
        ("D3", (0, 0, 1), 3),
        ("D3", (1, 0, 0), 2),
        ("T", (0, 0, 1), 3),
        ("T", (0, np.sqrt(2), 1), 2),
        ("O", (0, 0, 1), 4),
        ("O", (1, 0, 0), 4),
        ("I", (0, 0, 1), 2),
        ("I", (1, 0, (1 + np.sqrt(5)) / 2), 5),
    ],
)
def test_symmetry_axes_stand_where_relion_has_them(name: str, axis: tuple[float, float, float], fold: int) -> None:
    unit = np.array(axis) / np.linalg.norm(axis)
    about = [g for g in so3.symmetry_rotations(name) if np.allclose(g @ unit, unit, atol=1e-8)]
    assert len(about) == fold


@pytest.mark.parametrize("name", ["C3", "D2", "D5", "T", "O", "I"])
def test_symmetry_groups_are_relions(name: str) -> None:
    if shutil.which("relion_refine") is None:
        pytest.skip("relion_refine is not installed")
    command = ["relion_refine", "--print_symmetry_ops", "--sym", name]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    rows = re.findall(r"^((?:\s*[-+\d.e]+){3})\s*$", printed, flags=re.MULTILINE)
    relion = np.array([row.split() for row in rows], dtype=float).reshape(-1, 3, 3)
    group = so3.symmetry_rotations(name)
    assert len(relion) == len(group)
    distances = np.abs(relion[:, None] - group[None]).max(axis=(2, 3))
    assert distances.min(axis=1).max() < 1e-4


@pytest.mark.parametrize("name", ["", "C", "C0", "X", "T2", "D", "O3", "C-4", "helix"])
def test_unknown_symmetry_says_what_is_known(name: str) -> None:
    with pytest.raises(UsageError, match="Cn, Dn"):
        so3.symmetry_rotations(name)
