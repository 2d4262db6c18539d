"""Made-up complexes of real chains: pressed together side by side, then copied under a point group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from clarice.geometry.so3 import in_plane, symmetry_rotations
from clarice.physics.atoms import Atoms

FloatArray = NDArray[np.float64]

# How near two bodies come: so many of the one's atoms may stand closer than that, Å, to the other. Rigid bodies meet in
# a point, where real interfaces are broad.
CONTACT_ANGSTROM, _CLASHING_SHARE = 3.0, 0.03
# Atoms of a body that are measured against another's while it is being placed.
_PLACING_ATOMS = 800


def joined(bodies: Sequence[Atoms]) -> Atoms:
    """All atoms of several bodies."""
    return Atoms(
        np.concatenate([body.positions_angstrom for body in bodies]),
        np.concatenate([body.atomic_number for body in bodies]),
        np.concatenate([body.b_factor for body in bodies]),
        np.concatenate([body.weight for body in bodies]),
    )


def moved(atoms: Atoms, rotation: FloatArray, shift: FloatArray) -> Atoms:
    """Atoms at `rotation @ position + shift`."""
    return Atoms(atoms.positions_angstrom @ rotation.T + shift, atoms.atomic_number, atoms.b_factor, atoms.weight)


def _random_turn(rng: np.random.Generator) -> FloatArray:
    return np.asarray(Rotation.random(rng=rng).as_matrix())


def _unit(rng: np.random.Generator) -> FloatArray:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _thinned(points: FloatArray) -> FloatArray:
    return points[:: max(1, len(points) // _PLACING_ATOMS)]


def _distance(tree: cKDTree, points: FloatArray) -> float:
    """How far a body's points are from another's, but for the share of them that may clash."""
    nearest = np.sort(tree.query(points)[0])
    return float(nearest[int(_CLASHING_SHARE * len(points))])


def pressed_together(bodies: Sequence[Atoms], rng: np.random.Generator) -> Atoms:
    """One body: each next one is turned at random and brought in from a random side until it touches."""
    placed = bodies[0].centred()
    for body in bodies[1:]:
        turned = body.centred().rotated(_random_turn(rng))
        way = _unit(rng)
        fixed, free = placed.positions_angstrom, _thinned(turned.positions_angstrom)
        tree = cKDTree(fixed)
        far = float(np.linalg.norm(fixed, axis=1).max() + np.linalg.norm(free, axis=1).max()) + 10.0
        # A step never exceeds the distance left, so nothing is passed through.
        for _ in range(60):
            room = _distance(tree, free + far * way) - CONTACT_ANGSTROM
            if room < 0.2 or far <= 0:
                break
            far -= room
        placed = joined([placed, moved(turned, np.eye(3), max(far, 0.0) * way)]).centred()
    return placed


def symmetric_assembly(body: Atoms, symmetry: str, rng: np.random.Generator) -> Atoms:
    """Copies of a body under a point group (see `symmetry_rotations`), as close to its axes as they can stand.

    A ring about z first; where the group has other axes, rings are then moved out along z until they touch, so that
    the whole hangs together.
    """
    operators = symmetry_rotations(symmetry)
    unit = body.centred().rotated(_random_turn(rng))
    keeps_z = np.isclose(operators[:, 2, 2], 1.0)
    about_z = operators[keeps_z]
    turns = np.trace(about_z, axis1=1, axis2=2) < 2.99  # all but the identity
    if np.any(turns):
        radius = _least_distance(unit.positions_angstrom, about_z[turns], np.array([1.0, 0.0, 0.0]))
        unit = moved(unit, np.eye(3), np.array([radius, 0.0, 0.0]))
    if not np.all(keeps_z):
        unit = unit.rotated(in_plane(rng.uniform(0, 360)))
        ring = joined([unit.rotated(operator) for operator in about_z])
        elsewhere = operators[~keeps_z]
        _, first = np.unique(np.round(elsewhere[:, :, 2], 6), axis=0, return_index=True)
        height = _least_distance(ring.positions_angstrom, elsewhere[first], np.array([0.0, 0.0, 1.0]))
        unit = moved(unit, np.eye(3), np.array([0.0, 0.0, height]))
    return joined([unit.rotated(operator) for operator in operators]).centred()


def _least_distance(points: FloatArray, operators: FloatArray, outward: FloatArray) -> float:
    """The smallest shift along `outward` at which no copy by `operators` comes closer than a contact; by bisection."""
    tree = cKDTree(points)
    copies = [_thinned(points) @ turn.T for turn in operators]
    ways = operators @ outward - outward  # how a copy moves against the first as both move out

    def apart(distance: float) -> bool:
        placed = zip(copies, ways, strict=True)
        return all(_distance(tree, copy + distance * way) > CONTACT_ANGSTROM for copy, way in placed)

    low, high = 0.0, float(np.linalg.norm(points, axis=1).max()) + CONTACT_ANGSTROM
    while not apart(high):
        high *= 1.5
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if apart(middle) else (middle, high)
    return high
