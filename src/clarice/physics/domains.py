"""Outer domains of a molecule: to leave out, or to turn about where they hang."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from clarice.physics.atoms import Atoms


def outer_domain(atoms: Atoms, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a share of the atoms: those nearest to a random one in the outer half."""
    points = atoms.positions_angstrom - atoms.positions_angstrom.mean(axis=0)
    distance = np.linalg.norm(points, axis=1)
    outer = np.flatnonzero(distance >= np.median(distance))
    away = np.linalg.norm(points - points[rng.choice(outer)], axis=1)
    return np.sort(np.argsort(away, kind="stable")[: int(share * len(atoms))])


def without(atoms: Atoms, domain: NDArray[np.int64]) -> Atoms:
    """The atoms that are not rows of `domain`."""
    keep = np.setdiff1d(np.arange(len(atoms)), domain)
    return Atoms(atoms.positions_angstrom[keep], atoms.atomic_number[keep], atoms.b_factor[keep], atoms.weight[keep])


def with_turned(atoms: Atoms, domain: NDArray[np.int64], angle_deg: float, rng: np.random.Generator) -> Atoms:
    """The atoms with `domain` turned about its atom nearest to the centre, where it hangs, about a random axis."""
    positions = atoms.positions_angstrom.copy()
    points = positions[domain]
    hinge = points[np.linalg.norm(points - positions.mean(axis=0), axis=1).argmin()]
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(np.deg2rad(angle_deg) * axis / np.linalg.norm(axis)).as_matrix()
    positions[domain] = (points - hinge) @ turn.T + hinge
    return Atoms(positions, atoms.atomic_number, atoms.b_factor, atoms.weight)
