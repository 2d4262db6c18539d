"""Rotations: RELION's Euler angles, random rotations, distances, quasi-uniform grids, point groups.

Matrices are active, `x_view = R @ x_molecule`, vectors (x, y, z), float64.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from clarice.core.errors import UsageError

FloatArray = NDArray[np.float64]


def euler_to_matrix(euler_deg: FloatArray) -> FloatArray:
    """Matrices (n, 3, 3) of RELION's (rot, tilt, psi) in degrees (n, 3): `R = Rz(−psi) Ry(−tilt) Rz(−rot)`."""
    angles = np.asarray(euler_deg, dtype=np.float64).reshape(-1, 3)
    matrices = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    return np.asarray(np.swapaxes(matrices, -1, -2), dtype=np.float64)


def matrix_to_euler(rotations: FloatArray) -> FloatArray:
    """RELION's (rot, tilt, psi) in degrees (n, 3), tilt in [0, 180]; at tilt 0 and 180 psi is set to 0."""
    matrices = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    tilt = np.arctan2(np.hypot(matrices[:, 2, 0], matrices[:, 2, 1]), matrices[:, 2, 2])
    rot = np.arctan2(matrices[:, 2, 1], matrices[:, 2, 0])
    psi = np.arctan2(matrices[:, 1, 2], -matrices[:, 0, 2])
    # Gimbal lock: only rot ± psi is defined, so psi is put to 0 and rot read from the in-plane block.
    locked = np.hypot(matrices[:, 2, 0], matrices[:, 2, 1]) < 1e-7
    sign = np.where(matrices[:, 2, 2] > 0, 1.0, -1.0)
    rot = np.where(locked, np.arctan2(sign * matrices[:, 0, 1], sign * matrices[:, 0, 0]), rot)
    psi = np.where(locked, 0.0, psi)
    return np.asarray(np.rad2deg(np.stack([rot, tilt, psi], axis=-1)))


def random_rotations(count: int, generator: torch.Generator) -> FloatArray:
    """`count` rotations uniform on SO(3), (count, 3, 3)."""
    quaternions = torch.randn((count, 4), generator=generator, dtype=torch.float64).numpy()
    return np.asarray(Rotation.from_quat(quaternions).as_matrix())


def angle_between_deg(a: FloatArray, b: FloatArray) -> FloatArray:
    """Geodesic angle in degrees between rotations, broadcast over leading axes."""
    cosine = (np.einsum("...ij,...ij->...", a, b) - 1) / 2
    return np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0)))


def view_directions(rotations: FloatArray) -> FloatArray:
    """Beam direction in the molecule's frame, (n, 3): the third row of each matrix."""
    return np.asarray(rotations)[..., 2, :]


def sphere_grid(count: int) -> FloatArray:
    """`count` quasi-uniform unit vectors (count, 3) on the sphere: the Fibonacci spiral."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    azimuth = np.pi * (1 + np.sqrt(5)) * index
    radius = np.sqrt(np.clip(1 - z**2, 0, None))
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=-1)


def sphere_grid_spaced(spacing_deg: float) -> FloatArray:
    """Quasi-uniform unit vectors whose nearest neighbours lie about `spacing_deg` apart."""
    return sphere_grid(max(4, round(4 * np.pi / np.deg2rad(spacing_deg) ** 2)))


def view_rotations(directions: FloatArray, psi_deg: FloatArray | float = 0.0) -> FloatArray:
    """Rotations (n, 3, 3) whose beam runs along `directions` (n, 3), with in-plane angle psi."""
    rot = np.rad2deg(np.arctan2(directions[:, 1], directions[:, 0]))
    tilt = np.rad2deg(np.arccos(np.clip(directions[:, 2], -1, 1)))
    return euler_to_matrix(np.stack([rot, tilt, np.broadcast_to(psi_deg, rot.shape)], axis=-1))


def rotation_grid(spacing_deg: float) -> FloatArray:
    """Quasi-uniform grid on SO(3): a Fibonacci sphere of views times equally spaced in-plane angles."""
    directions = sphere_grid_spaced(spacing_deg)
    psi = np.arange(0, 360, 360 / max(1, round(360 / spacing_deg)))
    views = np.repeat(directions, len(psi), axis=0)
    return view_rotations(views, np.tile(psi, len(directions)))


def in_plane(alpha_deg: FloatArray | float) -> FloatArray:
    """Rotation by `alpha_deg` about z that turns image content by +α from +x towards +y: (..., 3, 3)."""
    vectors = np.asarray(alpha_deg, dtype=np.float64)[..., None] * np.array([0.0, 0.0, 1.0])
    return np.asarray(Rotation.from_rotvec(vectors, degrees=True).as_matrix())


def symmetry_rotations(symmetry: str) -> FloatArray:
    """All rotations (g, 3, 3) of a point group Cn, Dn, T, O or I, about RELION's axes.

    Cn and Dn: n-fold along z, Dn's 2-fold along x. T: 3-fold along z, 2-fold in the yz plane. O: 4-fold along x, y, z.
    I (RELION's I, 2-fold along x, y, z): 5-fold in the xz plane, 31.7° from z.

    Raises UsageError for an unknown name.
    """
    match = re.fullmatch(r"([CDTOI])(\d*)", symmetry.strip().upper())
    if match is None or (match[1] in "CD") != bool(match[2]) or match[2] == "0":
        raise UsageError(f"symmetry {symmetry!r} is not known: use Cn, Dn (such as C4 or D2), T, O or I")
    if match[1] == "C":
        return _cyclic(int(match[2]))
    if match[1] == "D":
        return np.concatenate([_cyclic(int(match[2])), np.diag([1.0, -1.0, -1.0]) @ _cyclic(int(match[2]))])
    group = np.asarray(Rotation.create_group(match[1]).as_matrix())  # type: ignore[arg-type]
    return np.asarray(_RELION_AXES[match[1]] @ group @ _RELION_AXES[match[1]].T)


def _cyclic(order: int) -> FloatArray:
    return in_plane(np.arange(order) * 360.0 / order)


# SciPy lays T's and I's 2-fold axes along x, y, z as well; RELION stands T on a 3-fold axis and turns I by 90° about z.
_RELION_AXES = {
    "T": euler_to_matrix(np.array([[45.0, np.rad2deg(np.arccos(np.sqrt(1 / 3))), 90.0]]))[0],
    "O": np.eye(3),
    "I": in_plane(90.0),
}
