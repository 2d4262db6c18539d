"""Procedural protein domains: layers of helices and strands, joined by loops into one Cα trace.

An α-helix rises 1.5 Å and turns 100° a residue at radius 2.3 Å; a β-strand rises 3.3 Å with a pleat;
neighbouring Cα stand 3.8 Å apart. Layers lie 10 Å apart, helices in a layer 9.6 Å, strands 4.8 Å, and
successive elements twist left-handed, as in real sheets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]

BOND_ANGSTROM = 3.8
RESIDUE_DALTON = 111.0
# Volume of a residue at a protein's usual 1.21 Å³ per Dalton.
_RESIDUE_VOLUME_ANGSTROM3 = 134.0
# Residues by which the loops outside the ellipsoid of elements make a domain larger.
_LOOP_SHARE = 0.13
_LAYER_SPACING = 10.0
_SPACING = {"helix": 9.6, "strand": 4.8}
_RISE = {"helix": 1.5, "strand": 3.3}
# Room at each end of an element that its loops fill.
_CAP_ANGSTROM = 3.0
# Closest two Cα may come that are not neighbours in the chain.
_CLASH_ANGSTROM = 4.3
# Layer orders of common architectures, repeated as far as the domain is thick.
_ARCHITECTURES = (
    ("helix",),
    ("strand",),
    ("helix", "strand"),
    ("helix", "strand", "helix"),
    ("strand", "strand", "helix"),
)


@dataclass(frozen=True)
class Domain:
    """Cα `positions` (n, 3), Å, along the chain; those in a helix or strand, and those that are there.

    Residues that would run into a neighbouring domain are missing, as disordered loops are from maps.
    """

    positions: FloatArray
    ordered: NDArray[np.bool_]  # (n,)
    present: NDArray[np.bool_]  # (n,)

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class _Slot:
    """Where an element stands: its kind, its axis point (x, y), its number of residues."""

    kind: str
    x: float
    y: float
    residues: int


def element_trace(kind: str, residues: int) -> FloatArray:
    """Cα positions (residues, 3) of an ideal helix or strand along z, centred."""
    index = np.arange(residues)
    z = (index - (residues - 1) / 2) * _RISE[kind]
    if kind == "helix":
        angle = np.deg2rad(100.0) * index
        return np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), z], axis=1)
    pleat = np.sqrt(BOND_ANGSTROM**2 - _RISE["strand"] ** 2) / 2
    return np.stack([np.zeros(residues), pleat * (-1.0) ** index, z], axis=1)


def _slots(residues: int, rng: np.random.Generator) -> list[_Slot]:
    """Elements that fill an ellipsoid of the domain's volume, layer by layer."""
    volume = residues * (1 - _LOOP_SHARE) * _RESIDUE_VOLUME_ANGSTROM3
    radius = (volume * 3 / (4 * np.pi)) ** (1 / 3)
    axes = radius * np.array([1.0, 1.0, 1.0]) * rng.uniform(0.85, 1.2, 3)
    axes *= radius / np.prod(axes) ** (1 / 3)
    layers = max(1, round(2 * axes[1] / _LAYER_SPACING))
    architecture = _ARCHITECTURES[rng.integers(len(_ARCHITECTURES))]
    slots = []
    for layer in range(layers):
        kind = architecture[layer % len(architecture)]
        y = (layer - (layers - 1) / 2) * _LAYER_SPACING
        half_width = axes[0] * np.sqrt(max(0.0, 1 - (y / (axes[1] + _LAYER_SPACING / 2)) ** 2))
        count = max(1, round(2 * half_width / _SPACING[kind]))
        offset = rng.uniform(-0.2, 0.2) * _SPACING[kind]
        for place in range(count):
            x = (place - (count - 1) / 2) * _SPACING[kind] + offset
            reach = 1 - (x / (axes[0] + 3)) ** 2 - (y / (axes[1] + 4)) ** 2
            length = 2 * axes[2] * np.sqrt(max(reach, 0.05)) - 2 * _CAP_ANGSTROM
            number = round(length * rng.uniform(0.8, 1.05) / _RISE[kind])
            slots.append(_Slot(kind, x, y, max(number, 3 if kind == "strand" else 5)))
    return slots


def _walk(slots: list[_Slot], rng: np.random.Generator) -> list[int]:
    """An order of the slots in which most steps go to a near neighbour, as chains do."""
    points = np.array([[slot.x, slot.y] for slot in slots])
    order = [int(rng.integers(len(slots)))]
    left = set(range(len(slots))) - set(order)
    while left:
        candidates = np.array(sorted(left))
        distance = np.linalg.norm(points[candidates] - points[order[-1]], axis=1) + rng.exponential(
            3.0, len(candidates)
        )
        order.append(int(candidates[np.argmin(distance)]))
        left.remove(order[-1])
    return order


def _loop(start: FloatArray, end: FloatArray, outward: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Cα positions strictly between `start` and `end` on a Bézier arc that bulges `outward`, 3.8 Å apart."""
    bulge = outward * rng.uniform(5.0, 9.0)
    parameter = np.linspace(0, 1, 200)[:, None]
    a, b, c = start + bulge, end + bulge, parameter
    curve = (1 - c) ** 3 * start + 3 * (1 - c) ** 2 * c * a + 3 * (1 - c) * c**2 * b + c**3 * end
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    count = max(1, round(length[-1] / BOND_ANGSTROM) - 1)
    at = np.linspace(0, length[-1], count + 2)[1:-1]
    arc = np.stack([np.interp(at, length, curve[:, axis]) for axis in range(3)], axis=1)
    return arc + rng.normal(0, 0.6, arc.shape)


def _relax(positions: FloatArray, mobility: FloatArray, steps: int = 40) -> FloatArray:
    """Moves residues until neighbours are 3.8 Å apart and others do not clash.

    `mobility` (n,): who gives way.
    """
    x = positions.copy()
    share = mobility[:-1] / (mobility[:-1] + mobility[1:])
    for _ in range(steps):
        pairs = cKDTree(x).query_pairs(_CLASH_ANGSTROM, output_type="ndarray")
        pairs = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) > 2]
        if len(pairs):
            i, j = pairs[:, 0], pairs[:, 1]
            apart = x[i] - x[j]
            distance = np.linalg.norm(apart, axis=1, keepdims=True) + 1e-6
            push = apart / distance * (_CLASH_ANGSTROM + 0.2 - distance) * 0.6
            weight = (mobility[i] / (mobility[i] + mobility[j]))[:, None]
            np.add.at(x, i, push * weight)
            np.add.at(x, j, -push * (1 - weight))
        for _ in range(4):  # bonds are stiffer than contacts
            bond = np.diff(x, axis=0)
            length = np.linalg.norm(bond, axis=1, keepdims=True) + 1e-6
            pull = bond * (1 - BOND_ANGSTROM / length) * 0.5
            x[:-1] += pull * share[:, None]
            x[1:] -= pull * (1 - share)[:, None]
    return x


def make_domain(residues: int, rng: np.random.Generator) -> Domain:
    """A globular domain of about `residues` residues (within about a fifth), its fold drawn from `rng`."""
    slots = _slots(residues, rng)
    layered = any(slot.kind == "strand" for slot in slots)
    twist = np.deg2rad(rng.uniform(-4.0, -2.5) if layered else rng.uniform(-2.5, -1.0))  # per Å along x
    pieces: list[FloatArray] = []
    ordered: list[NDArray[np.bool_]] = []
    for step, index in enumerate(_walk(slots, rng)):
        slot = slots[index]
        up = step % 2 == 0
        trace = element_trace(slot.kind, slot.residues)
        spin = Rotation.from_euler("z", rng.uniform(0, 2 * np.pi) if slot.kind == "helix" else 0.0)
        trace = spin.apply(trace if up else trace * np.array([1, -1, -1]))
        trace += np.array([slot.x, slot.y, rng.normal(0, 1.0)])
        tilt = Rotation.from_euler("xy", [twist * slot.x, rng.normal(0, 0.08)])
        trace = tilt.apply(trace)
        if pieces:
            # The last element ended where this one begins: both at its lower end if it runs up.
            outward = tilt.apply(np.array([0.0, 0.0, -1.0 if up else 1.0]))
            arc = _loop(pieces[-1][-1], trace[0], outward, rng)
            pieces.append(arc)
            ordered.append(np.zeros(len(arc), dtype=np.bool_))
        pieces.append(trace)
        ordered.append(np.ones(len(trace), dtype=np.bool_))
    positions, order = np.concatenate(pieces), np.concatenate(ordered)
    positions = _relax(positions, np.where(order, 0.15, 1.0))
    return Domain(positions - positions.mean(axis=0), order, np.ones(len(order), dtype=np.bool_))
