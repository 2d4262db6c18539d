"""The poses that one iteration of refinement looks at, particle by particle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.ring_source import RingSource, Rows
from clarice.abinitio.views import ONE_COPY, ViewGrid
from clarice.core.parallel import ordered_map
from clarice.core.particles import FloatArray
from clarice.geometry import so3
from clarice.geometry.angular import fast_dtype
from clarice.geometry.expectation import Expectation, RingStack, expectation, shift_grid
from clarice.geometry.polar import FourierRings

# Trial shifts lie this share of the finest ring's wavelength apart.
SHIFT_SHARE = 0.3
COARSEST_SHIFT_STEP_PX = 2.0
# Rounding must not forbid a shift at the very limit.
SHIFT_TOLERANCE_PX = 1e-3
# Finite, for the scores are offset in two parts of different precision.
FORBIDDEN = -1e9
# Local searches reach this many grid steps from the last view, and their cells a little further.
LOCAL_REACH, CELL_OVERLAP = 3.0, 1.6
PARTICLES_AT_ONCE = 2000


def _shift_step_px(rings: FourierRings) -> float:
    return SHIFT_SHARE * rings.box / rings.radii[-1]


def wide_shifts(rings: FourierRings, max_shift_px: float) -> Tensor:
    """Trial shifts (S, 2) of particles that may lie anywhere within `max_shift_px`, fine enough for the rings."""
    steps = max(1, math.ceil(max_shift_px / min(_shift_step_px(rings), COARSEST_SHIFT_STEP_PX)))
    return shift_grid(max_shift_px, max_shift_px / steps or 1.0)


@dataclass(frozen=True)
class PoseSearch:
    """Which poses one iteration looks at: every view, or those around each particle's last one.

    `rotations` (n, 3, 3) are the last poses; `shift_centres_px` (n, 2) the last shifts, None before there are any.
    """

    rings: FourierRings
    spacing_deg: float
    is_local: bool
    seed: int
    rotations: FloatArray
    shift_centres_px: FloatArray | None
    max_shift_px: float
    symmetry: FloatArray = field(default_factory=lambda: ONE_COPY)

    def grid(self, box: int) -> ViewGrid:
        """The iteration's views: turned anew each time, the same for both halves."""
        generator = torch.Generator().manual_seed(self.seed)
        turn = so3.random_rotations(1, generator)[0]
        return ViewGrid.spread(self.spacing_deg, self.rings, box, turn, self.symmetry, mirrored=not self.is_local)

    def empty(self) -> tuple[Tensor, Tensor]:
        count = len(self.grid(8))
        return torch.zeros(count, self.rings.count, self.rings.n_angles), torch.zeros(count, self.rings.count)

    def shifts(self, rows: Rows) -> tuple[Tensor, Tensor | None]:
        """Trial shifts and their log prior: (S, 2) on the first iteration, (b, S, 2) around each particle's own later.

        None of them lies beyond `max_shift_px`: there the prior (b, S), relative to a flat one, forbids it.
        """
        if self.shift_centres_px is None:
            return wide_shifts(self.rings, self.max_shift_px), None
        step = _shift_step_px(self.rings)
        centres = torch.from_numpy(self.shift_centres_px[rows]).float()
        shifts = centres[:, None, :] + shift_grid(step, step)
        allowed = shifts.abs().amax(dim=-1) <= self.max_shift_px + SHIFT_TOLERANCE_PX
        share = allowed.shape[1] / allowed.sum(dim=1, keepdim=True).clamp_min(1)
        return shifts, torch.where(allowed, share.log(), FORBIDDEN)

    def parts(
        self, particles: RingSource, grid: ViewGrid, references: Tensor, rows: Rows, *, averaging: bool = True
    ) -> Iterator[tuple[Rows, Rows, Expectation]]:
        """Expectation steps of some rows against some views, until every row of the half has had its own.

        Without `averaging` they find poses alone.
        """
        if self.is_local:
            reach = LOCAL_REACH * self.spacing_deg
            cells = so3.sphere_grid_spaced(reach)
            nearest = np.argmax(so3.view_directions(self.rotations[rows]) @ cells.T, axis=1)
            rows = rows[np.argsort(nearest, kind="stable")]
            nearest = np.sort(nearest)
            view_cosine = self._nearness(grid, cells)
        for start in range(0, len(rows), PARTICLES_AT_ONCE):
            some = rows[start : start + PARTICLES_AT_ONCE]
            stack = particles.rings(self.rings, some)
            if not self.is_local:
                yield (
                    some,
                    np.arange(len(grid)),
                    self._expect(stack, references, some, mirror=True, averaging=averaging),
                )
                continue
            cell_of = nearest[start : start + PARTICLES_AT_ONCE]

            def look_around(
                cell: int, start: int = start, stack: RingStack = stack, cell_of: Rows = cell_of
            ) -> tuple[Rows, Rows, Expectation]:
                inside = np.flatnonzero(cell_of == cell)
                views = np.flatnonzero(view_cosine[:, cell] > np.cos(np.deg2rad(CELL_OVERLAP * reach)))
                part, those = stack.subset(torch.from_numpy(inside)), rows[start + inside]
                return those, views, self._expect(part, references[views], those, mirror=False, averaging=averaging)

            yield from ordered_map(look_around, np.unique(cell_of).tolist())

    def _nearness(self, grid: ViewGrid, cells: FloatArray) -> FloatArray:
        """Cosine (J, c) of the angle between each view, or the nearest of its symmetric copies, and each cell."""
        directions = so3.view_directions(grid.rotations)
        copies = [directions @ rotation @ cells.T for rotation in self.symmetry]
        return np.asarray(np.maximum.reduce(copies))

    def _expect(
        self, stack: RingStack, references: Tensor, rows: Rows, *, mirror: bool, averaging: bool
    ) -> Expectation:
        shifts, log_prior = self.shifts(rows)
        return expectation(
            stack,
            references,
            shifts,
            shift_log_prior=log_prior,
            mirror=mirror,
            averaging=averaging,
            dtype=fast_dtype(),
        )
