"""Procedural molecules: domains packed into subunits, subunits into assemblies, from 20 kDa to 1 MDa.

Every residue becomes three pseudo-atoms (Cα, peptide group, side chain), so the molecule scatters like a
protein of its sequence. The same seed and options give the same molecule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from clarice.core.errors import UsageError
from clarice.geometry.so3 import sphere_grid, symmetry_rotations
from clarice.physics.atoms import Atoms, form_factor
from clarice.physics.folds import RESIDUE_DALTON, Domain, make_domain

FloatArray = NDArray[np.float64]
Shape = Literal["compact", "elongated", "ring", "hollow", "irregular"]

MASS_RANGE_KDA = (20.0, 1000.0)
# Closest Cα of two domains at first touch, and after they are pressed together and trimmed, Å.
_CONTACT_ANGSTROM = 6.0
_CLASH_ANGSTROM = 5.0
# How far domains are pressed into each other past first touch: rigid bodies would meet in a point, where real
# interfaces are broad.
_INTERFACE_ANGSTROM = 9.0
# Residues that trimming takes, about.
_TRIMMED_SHARE = 0.11
# Different folds in one molecule; larger ones repeat them in other orientations.
_MAX_FOLDS = 10
# How little distance along the axis costs in an elongated subunit: 1 would make a rod one domain thick.
_ELONGATION = 0.65
_SHAPE_ODDS = {"compact": 0.4, "elongated": 0.2, "ring": 0.1, "hollow": 0.1, "irregular": 0.2}

# Side chains of the 20 amino acids: frequency in proteins (%), non-hydrogen atoms, distance of their centroid
# from Cα (Å).
_SIDE_CHAINS = np.array(
    [
        (8.3, 1, 1.5),  # Ala
        (5.5, 7, 4.1),  # Arg
        (4.1, 4, 2.5),  # Asn
        (5.5, 4, 2.5),  # Asp
        (1.4, 2, 2.0),  # Cys
        (3.9, 5, 3.1),  # Gln
        (6.8, 5, 3.1),  # Glu
        (7.1, 0, 0.0),  # Gly
        (2.3, 6, 3.1),  # His
        (5.9, 4, 2.3),  # Ile
        (9.7, 4, 2.6),  # Leu
        (5.8, 5, 3.5),  # Lys
        (2.4, 4, 3.0),  # Met
        (3.9, 7, 3.4),  # Phe
        (4.7, 3, 1.9),  # Pro
        (6.6, 2, 1.9),  # Ser
        (5.3, 3, 1.9),  # Thr
        (1.1, 10, 3.9),  # Trp
        (2.9, 8, 3.8),  # Tyr
        (6.9, 3, 2.0),  # Val
    ]
)


def make_molecule(
    seed: int, *, mass_kda: float | None = None, symmetry: str = "C1", shape: Shape | None = None
) -> Atoms:
    """Pseudo-atoms of a made-up protein, centred on its scattering mass.

    `mass_kda` of the whole assembly within 20–1,000 (drawn log-uniformly when None; reached within about a
    tenth); `shape` of the subunit's domain arrangement (drawn when None); `symmetry` a point group, its axis
    along z. Raises UsageError for options out of range.
    """
    low, high = MASS_RANGE_KDA
    if mass_kda is not None and not low <= mass_kda <= high:
        raise UsageError(f"a molecule of {mass_kda:g} kDa cannot be made: choose {low:g} to {high:g} kDa")
    if shape is not None and shape not in get_args(Shape):
        raise UsageError(f"shape {shape!r} is not known: use one of {', '.join(get_args(Shape))}")
    if seed < 0:
        raise UsageError(f"--molecule {seed} must not be negative")
    operators = symmetry_rotations(symmetry)
    rng = np.random.default_rng(np.random.SeedSequence([seed]))
    drawn_mass = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    drawn_shape = str(rng.choice(list(_SHAPE_ODDS), p=list(_SHAPE_ODDS.values())))
    total = (drawn_mass if mass_kda is None else mass_kda) * 1000 / RESIDUE_DALTON
    per_subunit = max(30, round(total / len(operators)))
    domains = _arrange(_domains(per_subunit, rng), drawn_shape if shape is None else shape, rng)
    domains = _assemble(domains, operators, rng)
    return _pseudo_atoms(domains, len(operators), rng).centred()


def _domains(residues: int, rng: np.random.Generator) -> list[Domain]:
    """Domains of 70–400 residues whose sizes add up to about `residues` and what trimming will cost."""
    domains: list[Domain] = []
    left = round(residues * (1 + _TRIMMED_SHARE * min(1.0, residues / 500)))
    while left > 35 or not domains:
        wanted = int(np.clip(rng.lognormal(np.log(180), 0.4), 70, 400))
        wanted = left if left < 1.4 * wanted else wanted
        if len(domains) < _MAX_FOLDS or left < wanted:
            domains.append(make_domain(max(wanted, 25), rng))
        else:
            domains.append(domains[int(rng.integers(_MAX_FOLDS))])
        left -= len(domains[-1])
    return domains


def _moved(domain: Domain, rotation: FloatArray, shift: FloatArray) -> Domain:
    return replace(domain, positions=domain.positions @ rotation.T + shift)


def _points(domains: Sequence[Domain]) -> FloatArray:
    """Cα positions of all residues that are there."""
    return np.concatenate([domain.positions[domain.present] for domain in domains])


def _trimmed(domain: Domain, neighbours: FloatArray) -> Domain:
    """The domain without residues that run into `neighbours`, nor the crumbs left between those."""
    present = domain.present & (cKDTree(neighbours).query(domain.positions)[0] > _CLASH_ANGSTROM)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], present.astype(np.int8), [0]])))
    for start, stop in edges.reshape(-1, 2):
        if stop - start < 3:
            present[start:stop] = False
    return replace(domain, present=present)


def _touch(bodies: Sequence[FloatArray]) -> bool:
    """Whether two different bodies come closer than the contact distance."""
    label = np.repeat(np.arange(len(bodies)), [len(body) for body in bodies])
    pairs = cKDTree(np.concatenate(bodies)).query_pairs(_CONTACT_ANGSTROM, output_type="ndarray")
    return bool(np.any(label[pairs[:, 0]] != label[pairs[:, 1]]))


def _drawn_together(bodies: Sequence[FloatArray], directions: FloatArray) -> float:
    """The radius (by bisection) at which bodies, each moved out along its direction, just do not touch."""
    low = 0.0
    high = 2.0 * sum(float(np.linalg.norm(body, axis=1).max()) for body in bodies) + 10.0
    for _ in range(14):
        middle = (low + high) / 2
        if _touch([body + middle * way for body, way in zip(bodies, directions, strict=True)]):
            low = middle
        else:
            high = middle
    return high


def _unit(rng: np.random.Generator) -> FloatArray:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _slide_in(placed: FloatArray, body: FloatArray, target: FloatArray, way: FloatArray) -> FloatArray:
    """Shift that brings `body` along `way` from afar towards `target` and presses it into what is `placed`.

    Each step is the free distance left, so it cannot pass through anything.
    """
    tree = cKDTree(placed)
    far = np.linalg.norm(placed - target, axis=1).max() + np.linalg.norm(body, axis=1).max() + 20.0
    for _ in range(60):
        free = float(np.min(tree.query(body + target + far * way)[0])) - _CONTACT_ANGSTROM
        if free < 0.3 or far <= 0:
            break
        far -= min(free, far)
    return np.asarray(target + max(far - _INTERFACE_ANGSTROM, 0.0) * way)


def _arrange(domains: list[Domain], shape: str, rng: np.random.Generator) -> list[Domain]:
    """The domains of one subunit, turned at random and packed in the given shape."""
    turned = [_moved(domain, Rotation.random(rng=rng).as_matrix(), np.zeros(3)) for domain in domains]
    if shape in ("ring", "hollow") and len(turned) >= 4:
        return _arrange_around(turned, shape, rng)
    return _arrange_in_turn(turned, shape, rng)


def _arrange_around(turned: list[Domain], shape: str, rng: np.random.Generator) -> list[Domain]:
    """Groups of domains, each packed, on a circle or a sphere that is drawn together."""
    count = min(len(turned), int(rng.integers(4, 9)) if shape == "ring" else max(6, len(turned) // 2))
    groups = [_arrange_in_turn(turned[first::count], "compact", rng) for first in range(count)]
    groups = [[_moved(one, np.eye(3), -_points(group).mean(axis=0)) for one in group] for group in groups]
    if shape == "ring":
        angle = 2 * np.pi * np.arange(count) / count
        ways = np.stack([np.cos(angle), np.sin(angle), rng.uniform(-0.1, 0.1, count)], axis=1)
    else:
        ways = sphere_grid(count)
    radius = _drawn_together([_points(group) for group in groups], ways) - _INTERFACE_ANGSTROM
    placed: list[Domain] = []
    for group, way in zip(groups, ways, strict=True):
        moved = [_moved(domain, np.eye(3), max(radius, 0.0) * way) for domain in group]
        placed += [_trimmed(domain, _points(placed)) for domain in moved] if placed else moved
    return placed


def _arrange_in_turn(turned: list[Domain], shape: str, rng: np.random.Generator) -> list[Domain]:
    """One domain after the other, pressed against those already there."""
    placed = [turned[0]]
    axis = _unit(rng)
    for domain in turned[1:]:
        points = _points(placed)
        approaches = [_approach(placed, shape, rng) for _ in range(1 if shape == "irregular" else 4)]
        shifts = [_slide_in(points, domain.positions, *approach) for approach in approaches]
        away = np.stack(shifts) - points.mean(axis=0)
        along = np.abs(away @ axis)
        # The nearest place; distance along the axis costs little in an elongated subunit.
        cost = np.linalg.norm(away, axis=1) - (_ELONGATION * along if shape == "elongated" else 0)
        best = 0 if shape == "irregular" else int(np.argmin(cost))
        placed.append(_trimmed(_moved(domain, np.eye(3), shifts[best]), points))
    return placed


def _approach(placed: list[Domain], shape: str, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Where the next domain aims at, and from which direction it comes."""
    if shape == "irregular":
        return placed[int(rng.integers(len(placed)))].positions.mean(axis=0), _unit(rng)
    return _points(placed).mean(axis=0), _unit(rng)


def _assemble(domains: list[Domain], operators: FloatArray, rng: np.random.Generator) -> list[Domain]:
    """Copies of a subunit under a point group, drawn towards the axis until they press against each other."""
    if len(operators) == 1:
        return domains
    centre = _points(domains).mean(axis=0)
    # Cyclic groups leave the axis fixed: only the distance from it matters; others need a general direction.
    cyclic = bool(np.allclose(operators[:, 2, 2], 1.0))
    tries = []
    for _ in range(4):
        turn = Rotation.random(rng=rng).as_matrix()
        out = np.array([1.0, 0.0, 0.0]) if cyclic else _general_direction(rng)
        bodies = [(_points(domains) - centre) @ turn.T @ operator.T for operator in operators]
        tries.append((_drawn_together(bodies, out @ np.swapaxes(operators, 1, 2)), turn, out))
    radius, turn, out = min(tries, key=lambda attempt: attempt[0])  # the snuggest fit
    depth = _INTERFACE_ANGSTROM / 2 * min(1.0, len(_points(domains)) / 250)  # small subunits cannot spare much
    shift = max(radius - depth, 0.0) * out - turn @ centre
    moved = [_moved(domain, turn, shift) for domain in domains]
    whole = _points(moved)
    identity = np.argmax(np.trace(operators, axis1=1, axis2=2))
    others = np.concatenate([whole @ operator.T for operator in np.delete(operators, identity, axis=0)])
    moved = [_trimmed(domain, others) for domain in moved]
    return [_moved(domain, operator, np.zeros(3)) for operator in operators for domain in moved]


def _general_direction(rng: np.random.Generator) -> FloatArray:
    """A direction clear of the axes, 30–60° from z."""
    tilt, azimuth = np.deg2rad(rng.uniform(30, 60)), rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)])


def _pseudo_atoms(domains: list[Domain], copies: int, rng: np.random.Generator) -> Atoms:
    """Cα, peptide group and side chain of every residue; symmetry copies share sequence and B-factors."""
    of_subunit = len(domains) // copies
    residues = sum(map(len, domains[:of_subunit]))
    kind = rng.choice(len(_SIDE_CHAINS), size=residues, p=_SIDE_CHAINS[:, 0] / _SIDE_CHAINS[:, 0].sum())
    stiffness = rng.uniform(15.0, 60.0)
    carbon, nitrogen, oxygen = (form_factor(number, np.zeros(1))[0] for number in (6, 7, 8))
    positions, b_factors, weights, shown = [], [], [], []
    for index in range(0, len(domains), of_subunit):
        first = 0
        for domain in domains[index : index + of_subunit]:
            side = _SIDE_CHAINS[kind[first : first + len(domain)]]
            first += len(domain)
            x = domain.positions
            before, after = np.vstack([x[:1], x[:-1]]), np.vstack([x[1:], x[-1:]])
            outward = 2 * x - before - after
            outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
            positions += [x, (x + after) / 2, x + outward * side[:, 2:]]
            here = domain.present
            shown += [here, here & np.append(here[1:], False), here & (side[:, 1] > 0)]
            depth = np.linalg.norm(x - x.mean(axis=0), axis=1)
            b = stiffness + 20.0 * (depth / depth.max()) ** 2 + np.where(domain.ordered, 0.0, 25.0)
            # A peptide group and a side chain spread about their centroid by σ of 0.6 and 1 Å: 8π²σ² more.
            b_factors += [b, b + 28.0, b + 79.0]
            peptide = (carbon + nitrogen + oxygen) / carbon
            weights += [np.ones(len(x)), np.full(len(x), peptide), side[:, 1] * 0.95]
    keep = np.concatenate(shown)
    number = np.full(int(keep.sum()), 6, dtype=np.int64)
    return Atoms(
        np.concatenate(positions)[keep],
        number,
        np.concatenate(b_factors)[keep],
        np.concatenate(weights)[keep],
    )
