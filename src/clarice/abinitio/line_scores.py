"""How well the rays of all pairs of images fit, on a grid coarse enough to be gone through whole.

Rays are band-limited along the angle, so few angles hold their low frequencies. Three by three of them make a cell; the
likelihood ratio λ (`abinitio.rays`) of the best pair of rays in it, over all moves along them, stands for the cell. The
search is a chain of matrix products over many images at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.abinitio.rays import LineLikelihood, Rays
from clarice.geometry.angular import fast_dtype

# Coarse angles along each edge of a cell.
ANGLES_PER_CELL = 3
# Coarse angles on half a circle beyond the bandwidth of rays.
_MARGIN = 6
# Scores that are worked out at once: so many stay in a core's cache.
_TILE = 2**19
# Moves along a line are tried so far apart.
SHIFT_STEP_PX = 1.0


@dataclass(frozen=True)
class LineSettings:
    """How lines are searched for.

    `diameter_px` of the particle; rays up to `max_radius_px` cycles per box (three quarters of Nyquist if None),
    searched for first up to `coarse_radius_px`; `n_angles` of the circle that lines are told apart on; each image's
    content up to `max_shift_px` off its centre; so many `candidates` of a pair are looked at finely.
    """

    diameter_px: float
    max_radius_px: float | None = None
    coarse_radius_px: float = 16.0
    n_angles: int = 360
    max_shift_px: float = 0.0
    candidates: int = 6

    def __post_init__(self) -> None:
        if self.n_angles < 4 or self.n_angles % 2:
            raise ValueError(f"n_angles {self.n_angles} must be even and 4 or more")
        if self.diameter_px <= 0 or self.max_shift_px < 0 or self.candidates < 1:
            raise ValueError("diameter and candidates must be above 0, and no shift negative")

    def moves_px(self) -> Tensor:
        """Differences of two images' moves along their line, (D,)."""
        steps = math.ceil(2 * self.max_shift_px / SHIFT_STEP_PX)
        return torch.arange(-steps, steps + 1) * SHIFT_STEP_PX

    def radius_px(self, box: int) -> int:
        """The largest radius of rays of images with edge `box`."""
        return max(1, int(min(self.max_radius_px or 0.375 * box, box / 2 - 1)))

    def cells(self, box: int) -> int:
        """How many cells half a circle has: with so many angles it holds rays up to the coarse radius."""
        bandwidth = math.pi * min(self.coarse_radius_px, box / 2) * self.diameter_px / box
        return math.ceil((bandwidth + _MARGIN) / ANGLES_PER_CELL)

    def snr_by_radius(self, snr: Tensor | float, box: int) -> Tensor:
        """The signal-to-noise ratio of each radius (R,), from that of radii 1, 2, … or of all."""
        radius = self.radius_px(box)
        ratio = torch.as_tensor(snr, dtype=torch.float32)
        return ratio.expand(radius) if ratio.ndim == 0 else ratio[:radius]


@dataclass(frozen=True)
class CellScores:
    """Scores (p, cells, 2 · cells) of pairs `first` < `second` (p,): half a circle of one, all round the other."""

    first: Tensor
    second: Tensor
    scores: Tensor


def cell_scores(images: Tensor, settings: LineSettings, snr: Tensor | float) -> Iterator[CellScores]:
    """The scores of all pairs of images (n, L, L), some pairs at a time."""
    count, box = images.shape[0], images.shape[-1]
    cells = settings.cells(box)
    ratio = settings.snr_by_radius(snr, box)
    rays = Rays.sampled(images, min(settings.coarse_radius_px, len(ratio)), cells * ANGLES_PER_CELL)
    likelihood = LineLikelihood.of(rays, ratio[: len(rays.radii)])
    dtype = fast_dtype(images.device)
    moves = rays.moved_back(settings.moves_px())
    sought = [_by_cell(_sought_factors(rays, likelihood, move), cells, dtype) for move in moves]
    known = _by_cell(_known_factors(rays, likelihood), 2 * cells, dtype)
    rows = max(1, min(8, count // 8))
    columns = max(1, _TILE // (rows * 2 * cells**2))
    for top in range(0, count - 1, rows):
        tile_rows = slice(top, min(count, top + rows))
        a = [each[:, tile_rows].flatten(1, 2) for each in sought]
        for left in range(top, count, columns):
            tile_columns = slice(left, min(count, left + columns))
            best = _best_of_cells(a, known[:, tile_columns].flatten(1, 2))
            best = best.view(-1, cells, tile_columns.stop - left, 2 * cells).transpose(1, 2)
            first, second = _pairs(tile_rows, tile_columns)
            if len(first):
                yield CellScores(first, second, best[first - top, second - left].float())


def _by_cell(factors: Tensor, cells: int, dtype: torch.dtype) -> Tensor:
    """Factors (n, angles, C) as (angle of a cell, n, cells, C)."""
    count, _, size = factors.shape
    return factors.view(count, cells, ANGLES_PER_CELL, size).permute(2, 0, 1, 3).to(dtype).contiguous()


def _sought_factors(rays: Rays, likelihood: LineLikelihood, phases: Tensor) -> Tensor:
    """Rays moved back, weighed, with their energies beside them in two parts that bfloat16 holds: (n, half, C)."""
    coefficients = (rays.values * phases) @ likelihood.analysis
    energy = _in_two(-likelihood.energy_of(coefficients))
    weighed = torch.view_as_real(coefficients * likelihood.cross).flatten(-2)
    return torch.cat([weighed, energy, torch.ones_like(energy)], dim=-1)


def _known_factors(rays: Rays, likelihood: LineLikelihood) -> Tensor:
    """What `_sought_factors` are multiplied by: rays of the whole circle, (n, 2 · half, C)."""
    coefficients = rays.values @ likelihood.analysis
    coefficients = torch.cat([coefficients, coefficients.conj()], dim=1).resolve_conj()
    energy = _in_two(-likelihood.energy_of(coefficients))
    return torch.cat([torch.view_as_real(coefficients).flatten(-2), torch.ones_like(energy), energy], dim=-1)


def _in_two(values: Tensor) -> Tensor:
    """Values (…,) as what bfloat16 holds of them, and the rest: (…, 2)."""
    rough = values.bfloat16().float()
    return torch.stack([rough, values - rough], dim=-1)


def _best_of_cells(sought: list[Tensor], known: Tensor) -> Tensor:
    """The highest score of each cell over its angles and all moves, from factors (cell's angle, rows, C)."""
    best = product = None
    for factors in sought:
        for a in factors:
            for b in known:
                product = torch.mm(a, b.T, out=product)
                best = product.clone() if best is None else torch.maximum(best, product, out=best)
    assert best is not None
    return best


def _pairs(rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """Pairs i < j of a tile."""
    first, second = torch.meshgrid(
        torch.arange(rows.start, rows.stop), torch.arange(columns.start, columns.stop), indexing="ij"
    )
    upper = first < second
    return first[upper], second[upper]
