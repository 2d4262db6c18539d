"""Marginalised refinement on raw particles in independent half sets, annealed by their own FSC.

Every iteration gives each particle a posterior over views, in-plane angles and shifts, sums the posterior averages
into each half's map under the prior τ² = FSC / (1 − FSC) over the data's weight (Scheres 2012), and lets the next
iteration see a little further than the halves agree. The first searches all views; once the grid is fine, each
particle searches around where it was.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.half_sets import HalfSets
from clarice.abinitio.pose_search import PoseSearch
from clarice.abinitio.reconstruct import (
    SliceSums,
    agreed_radius,
    fsc_prior,
    halves_agreement,
    open_halves,
    orientation_agreement,
    solve_map,
    spherical_support,
)
from clarice.abinitio.ring_source import RingSource
from clarice.core.checkpoint import CheckpointStore, Forgetful
from clarice.core.parallel import ordered_map
from clarice.core.particles import FloatArray, Poses
from clarice.core.progress import Progress, silent
from clarice.geometry import so3
from clarice.geometry.fourier import up_to_radius
from clarice.geometry.polar import FourierRings

logger = logging.getLogger(__name__)

# How far beyond the agreement of the halves the next iteration looks, Fourier pixels.
LOOK_AHEAD = 3
# ... or this share of the radius agreed on, where that is more.
LOOK_AHEAD_SHARE = 0.25
# Grid spacing as a share of the angle that one ring at the current radius can tell apart.
ANGLE_SHARE = 0.7
GLOBAL_SPACING_DEG, FINEST_SPACING_DEG = 7.5, 3.0
# Both halves start from one map at no finer than this, cycles per particle diameter: up to there their agreement is no
# evidence, since even pure noise takes on what it is aligned to.
SHARED_CYCLES = 4.0


@dataclass(frozen=True)
class Settings:
    """What the user decides: particle diameter, point group, largest shift, iterations, seed, and the start.

    Up to `further_iterations` follow while the halves agree to the last ring looked at, until that is the finest and
    was looked at twice. The first iteration looks at rings up to `start_radius_px`; both halves see the starting map up
    to `shared_radius_px`, by default SHARED_CYCLES per diameter.
    """

    diameter_px: float
    symmetry: str = "C1"
    max_shift_px: float = 4.0
    iterations: int = 6
    further_iterations: int = 4
    start_radius_px: float = 8.0
    shared_radius_px: float | None = None
    seed: int = 0

    @property
    def most_iterations(self) -> int:
        """With all that may follow."""
        return self.iterations + self.further_iterations


@dataclass(frozen=True)
class Iteration:
    """One row of the refinement's history.

    `agreement_px` is how far the halves agree in what orientations determine; `mean_log_evidence` is of the views
    looked at, against pure noise.
    """

    radius_px: float
    spacing_deg: float
    is_local: bool
    agreement_px: float
    mean_log_evidence: float
    mean_confidence: float
    angle_change_deg: float | None


@dataclass(frozen=True)
class State:
    """Everything one iteration hands to the next: references and half maps (2, L, L, L), poses of every particle.

    `fsc` (L // 2 + 1,) is that of the half maps, `orientation_fsc` that of what their spherical means leave over.
    """

    volumes: Tensor
    halves: Tensor
    rotations: FloatArray
    shifts_px: FloatArray
    confidence: FloatArray
    fsc: Tensor
    orientation_fsc: Tensor
    history: tuple[Iteration, ...] = ()
    sums: tuple[SliceSums, ...] = field(default=(), repr=False)

    def as_mapping(self) -> dict[str, Any]:
        """Tensors and numbers only, for a checkpoint."""
        return {
            "volumes": self.volumes,
            "halves": self.halves,
            "rotations": torch.from_numpy(self.rotations),
            "shifts_px": torch.from_numpy(self.shifts_px),
            "confidence": torch.from_numpy(self.confidence),
            "fsc": self.fsc,
            "orientation_fsc": self.orientation_fsc,
            "history": [vars(row) for row in self.history],
            "sums": [(part.data, part.kernel) for part in self.sums],
        }

    @classmethod
    def from_mapping(cls, state: dict[str, Any]) -> State:
        """The state that `as_mapping` wrote."""
        return cls(
            state["volumes"],
            state["halves"],
            state["rotations"].numpy(),
            state["shifts_px"].numpy(),
            state["confidence"].numpy(),
            state["fsc"],
            state["orientation_fsc"],
            tuple(Iteration(**row) for row in state["history"]),
            tuple(SliceSums(*part) for part in state["sums"]),
        )


@dataclass(frozen=True)
class Refined:
    """The refined map and its evidence, in the particles' box.

    `volume` from all particles; `halves` (2, L, L, L) from each half set alone, neither masked nor filtered; `fsc`
    (L // 2 + 1,) between them inside the support, mask-corrected, and `orientation_fsc` the same without their
    spherical means; `confidence` (n,) the posterior mass of the view.
    """

    volume: Tensor
    halves: Tensor
    fsc: Tensor
    orientation_fsc: Tensor
    poses: Poses
    confidence: FloatArray
    history: tuple[Iteration, ...]


def refine(
    particles: RingSource,
    start: Tensor,
    half_set: HalfSets,
    settings: Settings,
    progress: Progress = silent,
    checkpoint: CheckpointStore | None = None,
) -> Refined:
    """Refines a starting map (L, L, L) on `particles`, rows of `half_set` 1 and 2 apart from the first step."""
    checkpoint = checkpoint or Forgetful()
    box = particles.box
    loaded = checkpoint.load()
    if loaded is None:
        shared, count = up_to_radius(start, shared_radius(box, settings), 3), len(particles)
        both, flat = torch.stack([shared, shared]), torch.ones(box // 2 + 1)
        anyhow = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
        state, index = State(both, both, anyhow, np.zeros((count, 2)), np.zeros(count), flat, flat), 0
    else:
        state, index = State.from_mapping(loaded[0]), loaded[1]
    while index < settings.iterations or (index < settings.most_iterations and _goes_on(state, box)):
        progress("refinement", index, max(settings.iterations, index + 1))
        state = _iterate(particles, state, half_set, settings, index)
        index += 1
        checkpoint.save(state.as_mapping(), index)
    progress("refinement", index, index)
    support = spherical_support(box, settings.diameter_px)
    sums = state.sums[0] + state.sums[1]
    prior = fsc_prior(state.fsc, state.sums)
    prior[agreed_radius(state.fsc, box, settings.diameter_px) + LOOK_AHEAD :] = 0
    volume = solve_map(sums, prior, support, state.volumes.mean(dim=0), iterations=20)
    poses = Poses(state.rotations, state.shifts_px)
    return Refined(volume, state.halves, state.fsc, state.orientation_fsc, poses, state.confidence, state.history)


def _goes_on(state: State, box: int) -> bool:
    """Whether the halves agree to the last ring that was looked at, and finer ones are left, or it was new itself.

    What an iteration finds out of a ring helps its poses only in the next one.
    """
    last = state.history[-1]
    before = state.history[-2].radius_px if len(state.history) > 1 else 0.0
    unfinished = last.radius_px < math.floor(box / 2 - 1) or before < last.radius_px
    return last.agreement_px >= math.floor(last.radius_px) and unfinished


def view_spacing_deg(rings: FourierRings, diameter_px: float, finest_deg: float) -> float:
    """Degrees between views that the last ring of a particle of `diameter_px` tells apart, `finest_deg` at least."""
    told_apart_deg = np.rad2deg(rings.box / diameter_px / rings.radii[-1])
    return max(ANGLE_SHARE * float(told_apart_deg), finest_deg)


def shared_radius(box: int, settings: Settings) -> float:
    """Fourier pixels up to which both halves start from the same map."""
    radius = settings.shared_radius_px or SHARED_CYCLES * box / settings.diameter_px
    return min(radius, box / 2 - 1)


def _iterate(particles: RingSource, state: State, half_set: HalfSets, settings: Settings, index: int) -> State:
    """One expectation and maximisation step of both halves."""
    box = particles.box
    radius = settings.start_radius_px
    if index:
        agreed = agreed_radius(state.orientation_fsc, box, settings.diameter_px)
        radius = max(agreed + max(LOOK_AHEAD, LOOK_AHEAD_SHARE * agreed), shared_radius(box, settings))
    rings = FourierRings.matching(box, min(radius, box / 2 - 1), settings.diameter_px)
    spacing = view_spacing_deg(rings, settings.diameter_px, FINEST_SPACING_DEG if index else GLOBAL_SPACING_DEG)
    symmetry = so3.symmetry_rotations(settings.symmetry)
    search = PoseSearch(
        rings,
        spacing,
        is_local=index > 0 and spacing < GLOBAL_SPACING_DEG,
        seed=settings.seed * 1000 + index,
        rotations=state.rotations,
        shift_centres_px=state.shifts_px if index > 0 else None,
        max_shift_px=settings.max_shift_px,
        symmetry=symmetry,
    )
    sums: list[SliceSums] = []
    evidence: list[Tensor] = []
    rotations, shifts, confidence = state.rotations.copy(), state.shifts_px.copy(), state.confidence.copy()
    for half in (0, 1):
        numerator, denominator = search.empty()
        grid = search.grid(box)
        references = grid.references(state.volumes[half])
        for rows, views, result in search.parts(particles, grid, references, np.flatnonzero(half_set == half + 1)):
            numerator[views] += result.numerator
            denominator[views] += result.denominator
            rotations[rows] = replace(grid, rotations=grid.rotations[views]).poses(result)
            shifts[rows] = result.shift_px.double().numpy()
            confidence[rows] = result.confidence.double().numpy()
            evidence.append(result.log_evidence - math.log(len(views) * (1 if search.is_local else 2)))
        sums.append(grid.sums(numerator, denominator, symmetry))
    volumes, halves, fsc, orientation_fsc = _maximise(tuple(sums), state.volumes, rings, settings)
    change = _angle_change_deg(state.rotations, rotations, symmetry) if index else None
    row = Iteration(
        rings.radii[-1],
        spacing,
        search.is_local,
        float(agreed_radius(orientation_fsc, box, settings.diameter_px)),
        float(torch.cat(evidence).mean()),
        float(confidence.mean()),
        change,
    )
    logger.info("refinement %d: %s", index + 1, row)
    history = (*state.history, row)
    return State(volumes, halves, rotations, shifts, confidence, fsc, orientation_fsc, history, tuple(sums))


def _angle_change_deg(before: FloatArray, after: FloatArray, symmetry: FloatArray) -> float:
    """Median angle between old and new rotations, to the nearest copy under the point group."""
    nearest = np.minimum.reduce([so3.angle_between_deg(before @ rotation, after) for rotation in symmetry])
    return float(np.median(nearest))


def _maximise(
    sums: tuple[SliceSums, ...], volumes: Tensor, rings: FourierRings, settings: Settings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """References of the next iteration (2, L, L, L), the half maps to judge by, their FSC, and that of orientations.

    The hardly regularised half maps tell the FSC, which sets the prior of the references.
    """
    box = volumes.shape[-1]
    support = spherical_support(box, settings.diameter_px)
    shell = torch.arange(box // 2 + 1)
    last = int(rings.radii[-1])
    seen = shell <= last + 1
    halves = open_halves(sums, seen)
    fsc = halves_agreement(halves, support, settings.seed, last)
    orientation_fsc = orientation_agreement(halves, support, settings.seed, last)
    prior = torch.where(seen, fsc_prior(fsc, sums), 0.0)
    solved = list(ordered_map(lambda half: solve_map(sums[half], prior, support, volumes[half]), (0, 1)))
    return torch.stack(solved), halves, fsc, orientation_fsc
