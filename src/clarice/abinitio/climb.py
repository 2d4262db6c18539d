"""One random start of projection matching on its way up in resolution: one map, or several that particles belong to.

With K maps every particle has a posterior over (map, view, angle, shift), all maps being as likely beforehand, and
gives each map its share. Particles that show none of them may have a class of their own, whose model is noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.pose_search import PARTICLES_AT_ONCE, wide_shifts
from clarice.abinitio.reconstruct import SliceSums, solve_map, spectral_prior, spherical_support
from clarice.abinitio.ring_source import RingSource, Rows
from clarice.abinitio.views import ViewGrid
from clarice.geometry import so3
from clarice.geometry.angular import fast_dtype
from clarice.geometry.expectation import Expectation, expectation
from clarice.geometry.fourier import fourier_resize
from clarice.geometry.polar import FourierRings


@dataclass(frozen=True)
class Phase:
    """Some iterations at one resolution, on `batch` particles for each map. `radius` is in cycles per diameter."""

    radius: float
    iterations: int
    batch: int
    spacing_deg: float
    temperature: float


@dataclass(frozen=True)
class Settings:
    """What the user decides: particle diameter, random starts, point group, largest shift, seed; maps and junk.

    `junk_share`: how many of the particles are expected to show none of the `classes` maps; 0 for no such class.
    """

    diameter_px: float
    starts: int = 4
    symmetry: str = "C1"
    max_shift_px: float = 4.0
    held_out: int = 400
    seed: int = 0
    classes: int = 1
    junk_share: float = 0.0

    def __post_init__(self) -> None:
        if self.classes < 1 or not 0 <= self.junk_share < 1:
            raise ValueError("one map at least, and a share of junk from 0 to below 1")

    @property
    def has_junk(self) -> bool:
        """Whether junk has a class of its own."""
        return self.junk_share > 0

    @property
    def sorts(self) -> bool:
        """Whether particles are told apart by what they show."""
        return self.classes > 1 or self.has_junk


class Climb:
    """One start: its maps, in a Fourier-cropped box that holds what `finest` matches."""

    def __init__(
        self, particles: RingSource, settings: Settings, training: Rows, seed: int, first: Phase, finest: Phase
    ) -> None:
        self.particles, self.settings, self.training, self.seed = particles, settings, training, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.symmetry = so3.symmetry_rotations(settings.symmetry)
        self.volume_box = min(particles.box, 2 * int(np.ceil(self.rings(finest).radii[-1] + 3)))
        diameter = settings.diameter_px * self.volume_box / particles.box
        self.support = spherical_support(self.volume_box, diameter)
        self.volumes = [self._random_blob(first) for _ in range(settings.classes)]

    def rings(self, phase: Phase) -> FourierRings:
        """The rings of a phase, in the particles' box."""
        radius = phase.radius * self.particles.box / self.settings.diameter_px
        box = self.particles.box
        return FourierRings.matching(box, min(radius, box / 2 - 1), self.settings.diameter_px)

    def maps(self) -> list[Tensor]:
        """The maps (L, L, L) in the particles' box: the same spectrum, so grey values shrink as voxels do."""
        box, scale = self.particles.box, (self.volume_box / self.particles.box) ** 3
        return [fourier_resize(volume, box, 3) * scale for volume in self.volumes]

    def _random_blob(self, phase: Phase) -> Tensor:
        rows = self._batch(phase.batch)
        rings = self.rings(phase)
        stack = self.particles.rings(rings, rows)
        grid = ViewGrid(so3.random_rotations(len(rows), self.generator), rings, self.volume_box)
        weights = rings.area_weights()[:, None]
        values = (stack.filtered * weights).reshape(-1)
        densities = (stack.power[..., None] * weights).expand(-1, -1, rings.n_angles // 2).reshape(-1)
        sums = SliceSums.of(grid.frequencies(), values, densities, self.volume_box)
        flat = torch.full((self.volume_box // 2 + 1,), 1e6)
        return solve_map(sums, flat, self.support)

    def _batch(self, count: int) -> Rows:
        chosen = torch.randperm(len(self.training), generator=self.generator)[:count]
        return np.sort(self.training[chosen.numpy()])

    def expect(self, rows: Rows, phase: Phase, *, averaging: bool = True) -> tuple[ViewGrid, Expectation]:
        """Expectation step of `rows` on a randomly turned grid, so that no grid direction is favoured for long.

        References are the views of one map after the other, then the one of junk.
        """
        rings = self.rings(phase)
        turn = so3.random_rotations(1, self.generator)[0]
        grid = ViewGrid.spread(phase.spacing_deg, rings, self.volume_box, turn, self.symmetry, mirrored=True)
        references = [grid.references(volume) for volume in self.volumes]
        if self.settings.has_junk:
            references.append(torch.zeros_like(references[0][:1]))
        result = expectation(
            self.particles.rings(rings, rows),
            torch.cat(references),
            wide_shifts(rings, self.settings.max_shift_px),
            log_prior=self._log_prior(grid, phase.temperature) if self.settings.has_junk else None,
            mirror=True,
            temperature=phase.temperature,
            averaging=averaging,
            dtype=fast_dtype(),
        )
        return grid, result

    def _log_prior(self, grid: ViewGrid, temperature: float) -> Tensor:
        """Logarithm of how likely each reference is beforehand beside a view, mirrors after all others.

        The temperature, by which it will be divided, does not make junk less likely.
        """
        views, share = len(grid) * self.settings.classes, self.settings.junk_share
        return torch.tensor([0.0] * views + [temperature * math.log(views * share / (1 - share))]).repeat(2)

    def run(self, phase: Phase, step: Callable[[], None]) -> Climb:
        """Takes the maps through the iterations of one phase, calling `step` after every one."""
        for _ in range(phase.iterations):
            grid, result = self.expect(self._batch(phase.batch * self.settings.classes), phase)
            for number, volume in enumerate(self.volumes):
                part = slice(number * len(grid), (number + 1) * len(grid))
                sums = grid.sums(result.numerator[part], result.denominator[part], self.symmetry)
                prior = spectral_prior(volume)
                prior[int(grid.rings.radii[-1]) + 2 :] = 0
                self.volumes[number] = solve_map(sums, prior, self.support, volume, iterations=8)
            step()
        return self

    def score(self, rows: Rows, phase: Phase) -> float:
        """Mean log-likelihood ratio (against pure noise) of particles the maps have not seen."""
        grid, result = self.expect(rows, phase, averaging=False)
        # The evidence adds up over views and their mirrors, of which each is as likely beforehand.
        references = 2 * len(grid) * self.settings.classes / (1 - self.settings.junk_share)
        return float(result.log_evidence.mean()) - phase.temperature * math.log(references)

    def memberships(self, rows: Rows, phase: Phase) -> Tensor:
        """How probably each particle shows each map, and junk last where there is such a class: (n, K or K + 1)."""
        found = []
        for start in range(0, len(rows), PARTICLES_AT_ONCE):
            grid, result = self.expect(rows[start : start + PARTICLES_AT_ONCE], phase, averaging=False)
            sizes = [len(grid)] * self.settings.classes + [1] * self.settings.has_junk
            parts = torch.split(result.reference_mass, sizes, dim=1)
            found.append(torch.stack([part.sum(dim=1) for part in parts], dim=1))
        return torch.cat(found)
