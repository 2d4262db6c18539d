"""Marginalised refinement on raw particles in independent half sets, annealed by their own FSC.

Every iteration gives each particle a posterior over views, in-plane angles and shifts, sums the posterior averages
into each half's map under the prior τ² = FSC / (1 − FSC) over the data's weight (Scheres 2012), and lets the next
iteration see two shells more than the halves agree on. The first searches all views; once the grid is fine, each
particle searches around where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.projection_matching import spherical_support
from clarice.abinitio.reconstruct import SliceSums, solve_map
from clarice.abinitio.ring_source import RingSource, Rows
from clarice.abinitio.views import ViewGrid
from clarice.core.checkpoint import CheckpointStore, Forgetful
from clarice.core.particles import FloatArray, Poses
from clarice.core.progress import Progress, silent
from clarice.geometry import so3
from clarice.geometry.angular import fast_dtype
from clarice.geometry.expectation import Expectation, expectation, shift_grid
from clarice.geometry.fourier import centred_fft3, shell_mean
from clarice.geometry.polar import FourierRings

logger = logging.getLogger(__name__)

HALF_MAP_THRESHOLD = 0.143
# How far beyond the agreement of the halves the next iteration looks, Fourier pixels.
LOOK_AHEAD = 3
# Grid spacing and shift step as shares of what one ring at the current radius can tell apart.
ANGLE_SHARE, SHIFT_SHARE = 0.7, 0.3
GLOBAL_SPACING_DEG, FINEST_SPACING_DEG = 7.5, 3.0
# Local searches reach this many grid steps from the last view.
LOCAL_REACH = 3.0
PARTICLES_AT_ONCE = 2000


@dataclass(frozen=True)
class Settings:
    """What the user decides: particle diameter, point group, largest shift, iterations, first radius, seed."""

    diameter_px: float
    symmetry: str = "C1"
    max_shift_px: float = 4.0
    iterations: int = 7
    start_radius_px: float = 8.0
    seed: int = 0


@dataclass(frozen=True)
class Iteration:
    """One row of the refinement's history."""

    radius_px: float
    spacing_deg: float
    is_local: bool
    agreement_px: float
    mean_log_evidence: float
    mean_confidence: float
    angle_change_deg: float


@dataclass(frozen=True)
class State:
    """Everything one iteration hands to the next. `volumes` (2, L, L, L); poses of every particle."""

    volumes: Tensor
    rotations: FloatArray
    shifts_px: FloatArray
    confidence: FloatArray
    fsc: Tensor
    history: tuple[Iteration, ...] = ()
    sums: tuple[SliceSums, ...] = field(default=(), repr=False)

    def as_mapping(self) -> dict[str, Any]:
        """Tensors and numbers only, for a checkpoint."""
        return {
            "volumes": self.volumes,
            "rotations": torch.from_numpy(self.rotations),
            "shifts_px": torch.from_numpy(self.shifts_px),
            "confidence": torch.from_numpy(self.confidence),
            "fsc": self.fsc,
            "history": [vars(row) for row in self.history],
            "sums": [(part.data, part.kernel) for part in self.sums],
        }

    @classmethod
    def from_mapping(cls, state: dict[str, Any]) -> State:
        """The state that `as_mapping` wrote."""
        return cls(
            state["volumes"],
            state["rotations"].numpy(),
            state["shifts_px"].numpy(),
            state["confidence"].numpy(),
            state["fsc"],
            tuple(Iteration(**row) for row in state["history"]),
            tuple(SliceSums(*part) for part in state["sums"]),
        )


@dataclass(frozen=True)
class Refined:
    """The refined map and its evidence, in the particles' box.

    `volume` from all particles, `halves` (2, L, L, L) from each half set alone, `fsc` (L // 2 + 1,) between them
    inside the spherical support; `confidence` (n,) is the posterior mass of the chosen view.
    """

    volume: Tensor
    halves: Tensor
    fsc: Tensor
    poses: Poses
    confidence: FloatArray
    history: tuple[Iteration, ...]


def refine(
    particles: RingSource,
    start: Tensor,
    half_set: np.ndarray[Any, np.dtype[np.int8]],
    settings: Settings,
    progress: Progress = silent,
    checkpoint: CheckpointStore | None = None,
) -> Refined:
    """Refines a starting map (L, L, L) on `particles`, rows of `half_set` 1 and 2 apart from the first step."""
    checkpoint = checkpoint or Forgetful()
    box = particles.box
    loaded = checkpoint.load()
    if loaded is None:
        count = len(particles)
        state, first = State(
            torch.stack([start, start]),
            np.broadcast_to(np.eye(3), (count, 3, 3)).copy(),
            np.zeros((count, 2)),
            np.zeros(count),
            torch.ones(box // 2 + 1),
        ), 0
    else:
        state, first = State.from_mapping(loaded[0]), loaded[1]
    for index in range(first, settings.iterations):
        progress("refinement", index, settings.iterations)
        state = _iterate(particles, state, half_set, settings, index)
        checkpoint.save(state.as_mapping(), index + 1)
    progress("refinement", settings.iterations, settings.iterations)
    support = spherical_support(box, settings.diameter_px)
    both = state.sums[0] + state.sums[1]
    prior = _prior_power(state.fsc, state.sums)
    prior[_agreed_radius(state.fsc) + LOOK_AHEAD :] = 0
    volume = solve_map(both, prior, support, state.volumes.mean(dim=0), iterations=20)
    poses = Poses(state.rotations, state.shifts_px)
    return Refined(volume, state.volumes, state.fsc, poses, state.confidence, state.history)


def assign_half_sets(
    count: int,
    seed: int,
    known: np.ndarray[Any, np.dtype[np.int8]] | None = None,
    micrograph: np.ndarray[Any, np.dtype[np.str_]] | None = None,
) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Half set 1 or 2 of each particle: as known, else whole micrographs to either half, else at random.

    Micrographs go, largest first, to the half with fewer particles, so that halves are of nearly one size.
    """
    if known is not None and np.isin(known, (1, 2)).all() and len(np.unique(known)) == 2:
        return known.astype(np.int8)
    generator = torch.Generator().manual_seed(seed)
    if micrograph is not None and len(np.unique(micrograph)) >= 2:
        _, index, sizes = np.unique(micrograph, return_inverse=True, return_counts=True)
        shuffled = torch.randperm(len(sizes), generator=generator).numpy()
        half_of = np.zeros(len(sizes), dtype=np.int8)
        filled = [0, 0]
        for name in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            smaller = int(filled[1] < filled[0])
            half_of[name] = smaller + 1
            filled[smaller] += int(sizes[name])
        return half_of[index]
    halves = np.ones(count, dtype=np.int8)
    halves[torch.randperm(count, generator=generator).numpy()[: count // 2]] = 2
    return halves


def _iterate(
    particles: RingSource, state: State, half_set: np.ndarray[Any, Any], settings: Settings, index: int
) -> State:
    """One expectation and maximisation step of both halves."""
    box = particles.box
    radius = settings.start_radius_px if index == 0 else _agreed_radius(state.fsc) + LOOK_AHEAD
    rings = FourierRings.up_to(box, min(radius, box / 2 - 1), settings.diameter_px)
    told_apart_deg = np.rad2deg(box / settings.diameter_px / rings.radii[-1])
    spacing = float(np.clip(ANGLE_SHARE * told_apart_deg, FINEST_SPACING_DEG, 12.0))
    search = _Search(settings, state, rings, spacing, is_local=index > 0 and spacing < GLOBAL_SPACING_DEG, index=index)
    symmetry = so3.symmetry_rotations(settings.symmetry)
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
            evidence.append(result.log_evidence)
        sums.append(grid.sums(numerator, denominator, symmetry))
    volumes, fsc = _maximise(tuple(sums), state.volumes, rings, settings)
    change = so3.angle_between_deg(state.rotations, rotations)
    row = Iteration(
        rings.radii[-1],
        spacing,
        search.is_local,
        float(_agreed_radius(fsc)),
        float(torch.cat(evidence).mean()),
        float(confidence.mean()),
        float(np.median(change)),
    )
    logger.info("refinement %d: %s", index + 1, row)
    return State(volumes, rotations, shifts, confidence, fsc, (*state.history, row), tuple(sums))


@dataclass(frozen=True)
class _Search:
    """Which poses an iteration looks at."""

    settings: Settings
    state: State
    rings: FourierRings
    spacing_deg: float
    is_local: bool
    index: int

    def grid(self, box: int) -> ViewGrid:
        """The iteration's views: turned anew each time, the same for both halves."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1000 + self.index)
        turn = so3.random_rotations(1, generator)[0]
        make = ViewGrid.sphere if self.is_local else ViewGrid.hemisphere
        return make(self.spacing_deg, self.rings, box, turn)

    def empty(self) -> tuple[Tensor, Tensor]:
        count = len(self.grid(8))
        return torch.zeros(count, self.rings.count, self.rings.n_angles), torch.zeros(count, self.rings.count)

    def shifts(self, rows: Rows) -> Tensor:
        """Trial shifts (S, 2) on the first iteration; (b, S, 2) around each particle's own afterwards."""
        if self.index == 0:
            return shift_grid(self.settings.max_shift_px, 2.0)
        step = SHIFT_SHARE * self.rings.box / self.rings.radii[-1]
        centres = torch.from_numpy(self.state.shifts_px[rows]).float()
        return centres[:, None, :] + shift_grid(step, step)

    def parts(
        self, particles: RingSource, grid: ViewGrid, references: Tensor, rows: Rows
    ) -> Iterator[tuple[Rows, Rows, Expectation]]:
        """Expectation steps of some rows against some views, until every row of the half has had its own."""
        if not self.is_local:
            for start in range(0, len(rows), PARTICLES_AT_ONCE):
                some = rows[start : start + PARTICLES_AT_ONCE]
                yield some, np.arange(len(grid)), self._expect(particles, references, some, mirror=True)
            return
        reach = LOCAL_REACH * self.spacing_deg
        cells = so3.sphere_grid_spaced(reach)
        nearest = np.argmax(so3.view_directions(self.state.rotations[rows]) @ cells.T, axis=1)
        view_cosine = so3.view_directions(grid.rotations) @ cells.T
        for cell in np.unique(nearest):
            some = rows[nearest == cell]
            views = np.flatnonzero(view_cosine[:, cell] > np.cos(np.deg2rad(1.6 * reach)))
            yield some, views, self._expect(particles, references[views], some, mirror=False)

    def _expect(self, particles: RingSource, references: Tensor, rows: Rows, mirror: bool) -> Expectation:
        stack = particles.rings(self.rings, rows)
        return expectation(stack, references, self.shifts(rows), mirror=mirror, dtype=fast_dtype())


def _fsc(a: Tensor, b: Tensor) -> Tensor:
    spectrum_a, spectrum_b = centred_fft3(a), centred_fft3(b)
    cross = shell_mean((spectrum_a * spectrum_b.conj()).real, 3)
    power = shell_mean(spectrum_a.abs().square(), 3) * shell_mean(spectrum_b.abs().square(), 3)
    return cross / power.sqrt().clamp_min(1e-20)


def _agreed_radius(fsc: Tensor) -> int:
    """Last shell before the halves' FSC first falls below 0.143."""
    below = (fsc[1:] < HALF_MAP_THRESHOLD).nonzero()
    return int(below[0, 0]) if len(below) else len(fsc) - 1


def _maximise(
    sums: tuple[SliceSums, ...], volumes: Tensor, rings: FourierRings, settings: Settings
) -> tuple[Tensor, Tensor]:
    """Half maps (2, L, L, L) and their FSC: hardly regularised maps tell the FSC, which sets the prior of the final."""
    box = volumes.shape[-1]
    support = spherical_support(box, settings.diameter_px)
    seen = torch.arange(box // 2 + 1) <= int(rings.radii[-1]) + 1
    weak = torch.where(seen, _prior_power(torch.full_like(seen, 0.9, dtype=torch.float32), sums), 0.0)
    rough = [solve_map(part, weak, support, old) for part, old in zip(sums, volumes, strict=True)]
    fsc = torch.where(torch.arange(box // 2 + 1) <= rings.radii[-1], _fsc(rough[0], rough[1]), 0.0)
    prior = torch.where(seen, _prior_power(fsc, sums), 0.0)
    solved = [solve_map(part, prior, support, old) for part, old in zip(sums, rough, strict=True)]
    return torch.stack(solved), fsc


def _prior_power(fsc: Tensor, sums: tuple[SliceSums, ...]) -> Tensor:
    """τ² of each shell: signal-to-noise FSC / (1 − FSC) of a half map over the data's weight there.

    An FSC below 0.05 is taken for 0.05: noise may push a shell with signal to zero, and then it never came back.
    """
    agreement = fsc.clamp(0.05, 0.995)
    weight = torch.stack([part.shell_weight() for part in sums]).mean(dim=0)
    return agreement / (1 - agreement) * sums[0].data.numel() / weight.clamp_min(1e-3 * float(weight.max()))
