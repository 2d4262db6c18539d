"""Common lines: where the central planes of two projections meet in Fourier space, for all pairs of a set.

Of all pairs of rays, one from each image, and of all moves along them, that with the largest likelihood ratio is kept
(`abinitio.rays`). Rays are band-limited along the angle, so the search is made on as few angles as hold the low
frequencies, as matrix products over all images at once; the best cells of each pair are then gone through finely with
all frequencies. After van Heel 1987 and Singer and Shkolnisky 2011 (SIAM J. Imaging Sci. 4, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.abinitio.rays import CLEAN_SNR, LineLikelihood, Rays
from clarice.core.progress import Progress, silent
from clarice.geometry.angular import fast_dtype

# Coarse angles along each edge of a cell; the best of each cell stands for it.
_CELL = 3
# Coarse angles beyond twice the bandwidth of rays, in the mean over both images.
_MARGIN = 6
# Scores that are worked out at once: so many stay in a core's cache.
_TILE = 2**19
# Moves along a line are tried a pixel apart, then half a pixel.
_SHIFT_STEP_PX = 1.0


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
        steps = math.ceil(2 * self.max_shift_px / _SHIFT_STEP_PX)
        return torch.arange(-steps, steps + 1) * _SHIFT_STEP_PX


@dataclass(frozen=True)
class CommonLines:
    """Lines of all pairs of n images; each field (n, n), its diagonal 0.

    `angle_rad[i, j]`: direction in image i, from +x towards +y, of the ray that it shares with image j, whose own is
    `angle_rad[j, i]`. `shift_px[i, j]`: by how much the content of i lies further along it than that of j.
    `confidence`: how probable the line is beside all others, were the model of the rays right. `score`: λ.
    """

    angle_rad: Tensor
    shift_px: Tensor
    confidence: Tensor
    score: Tensor

    @classmethod
    def none(cls, count: int) -> CommonLines:
        """Lines yet to be found."""
        return cls(*(torch.zeros((count, count)) for _ in range(4)))

    def __len__(self) -> int:
        return len(self.angle_rad)

    def directions(self) -> Tensor:
        """Unit vectors (n, n, 2) of the lines in the images."""
        return torch.stack([self.angle_rad.cos(), self.angle_rad.sin()], dim=-1)


@dataclass(frozen=True)
class _Found:
    """Lines of p pairs: angle indices in both images, difference of moves and score, (p,) each."""

    first: Tensor
    second: Tensor
    shift_px: Tensor
    score: Tensor

    def better_of(self, other: _Found) -> _Found:
        """Of each pair the line with the higher score."""
        mine = self.score >= other.score
        return _Found(
            *(torch.where(mine, a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


def find_common_lines(
    images: Tensor, settings: LineSettings, snr: Tensor | float = CLEAN_SNR, progress: Progress = silent
) -> CommonLines:
    """Common lines of all pairs of images (n, L, L), centred but for `max_shift_px` and free of CTF.

    `snr`: of the Fourier coefficients of each radius 1, 2, … (R or more,), or of all. Raises ValueError for fewer than
    two images.
    """
    count, box = images.shape[0], images.shape[-1]
    if count < 2:
        raise ValueError("common lines need two or more images")
    radius = max(1, int(min(settings.max_radius_px or 0.375 * box, box / 2 - 1)))
    ratio = torch.as_tensor(snr, dtype=torch.float32)
    ratio = ratio.expand(radius) if ratio.ndim == 0 else ratio[:radius]
    search = _FineSearch(Rays.sampled(images, radius, settings.n_angles // 2), ratio, settings)
    lines = CommonLines.none(count)
    done, pairs = 0, count * (count - 1) // 2
    for cells in _coarse_search(images, settings, ratio):
        found = search.around(cells)
        at = (cells.first, cells.second)
        for field, value in (("score", found.score), ("confidence", cells.confidence)):
            getattr(lines, field)[at] = getattr(lines, field)[at[::-1]] = value
        lines.angle_rad[at], lines.angle_rad[at[::-1]] = (
            index * (2 * torch.pi / settings.n_angles) for index in (found.first, found.second)
        )
        lines.shift_px[at], lines.shift_px[at[::-1]] = found.shift_px, -found.shift_px
        done += len(cells.first)
        progress("common lines", done, pairs)
    return lines


@dataclass(frozen=True)
class _Cells:
    """Candidates of p pairs (`first`, `second`), best first: angles of their middles (p, c, 2), in turns of π.

    `confidence` (p,) of the first, beside all cells.
    """

    first: Tensor
    second: Tensor
    middle: Tensor
    confidence: Tensor


def _cells_of(settings: LineSettings, box: int) -> int:
    """How many cells of coarse angles half a circle has: enough to hold rays up to the coarse radius."""
    bandwidth = math.pi * min(settings.coarse_radius_px, box / 2) * settings.diameter_px / box
    return math.ceil((bandwidth + _MARGIN) / _CELL)


def _coarse_search(images: Tensor, settings: LineSettings, snr: Tensor) -> Iterator[_Cells]:
    """The best cells of all pairs, tile by tile."""
    count, cells = images.shape[0], _cells_of(settings, images.shape[-1])
    rays = Rays.sampled(images, min(settings.coarse_radius_px, len(snr)), cells * _CELL)
    likelihood = LineLikelihood.of(rays, snr[: len(rays.radii)])
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
            best = _cell_scores(a, known[:, tile_columns].flatten(1, 2))
            best = best.view(-1, cells, tile_columns.stop - left, 2 * cells).transpose(1, 2).flatten(2).float()
            pair = _pairs(tile_rows, tile_columns)
            scores = best[pair[0] - top, pair[1] - left]
            if len(scores):
                yield _best_cells(*pair, scores, cells, settings.candidates)


def _by_cell(factors: Tensor, cells: int, dtype: torch.dtype) -> Tensor:
    """Factors (n, angles, C) as (angle of a cell, n, cells, C)."""
    count, _, size = factors.shape
    return factors.view(count, cells, _CELL, size).permute(2, 0, 1, 3).to(dtype).contiguous()


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


def _cell_scores(sought: list[Tensor], known: Tensor) -> Tensor:
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


def _best_cells(first: Tensor, second: Tensor, scores: Tensor, cells: int, candidates: int) -> _Cells:
    """From scores (p, cells · 2 cells) of each pair's cells."""
    value, cell = scores.topk(min(candidates, scores.shape[1]), dim=1)
    middle = torch.stack([cell // (2 * cells), cell % (2 * cells)], dim=-1) * _CELL + (_CELL - 1) / 2
    confidence = torch.exp(value[:, 0] - torch.logsumexp(scores, dim=1))
    return _Cells(first, second, middle / (cells * _CELL), confidence)


class _FineSearch:
    """Goes through the angles of cells with all frequencies."""

    def __init__(self, rays: Rays, snr: Tensor, settings: LineSettings) -> None:
        self.rays, self.moves = rays, settings.moves_px()
        self.likelihood = LineLikelihood.of(rays, snr)
        self.known = Rays(rays.values @ self.likelihood.analysis, rays.radii, rays.box)
        reach = math.ceil(0.5 * rays.half / _cells_of(settings, rays.box))
        self.step = max(1, round(reach / 3))
        self.window = torch.arange(-reach, reach + 1, self.step)

    def around(self, cells: _Cells) -> _Found:
        """The best line of each pair near one of its candidates."""
        centre = (cells.middle * self.rays.half).round().long()
        pair = (cells.first, cells.second)
        still = torch.zeros(len(cells.first))
        best = self._nearby(pair, centre[:, 0], still, self.window, self.moves)
        for candidate in range(1, centre.shape[1]):
            best = best.better_of(self._nearby(pair, centre[:, candidate], still, self.window, self.moves))
        window = torch.arange(1 - self.step, self.step) if self.step > 1 else torch.zeros(1, dtype=torch.long)
        moves = self.moves if len(self.moves) == 1 else torch.tensor([-0.5, 0.0, 0.5]) * _SHIFT_STEP_PX
        return self._nearby(pair, torch.stack([best.first, best.second], dim=-1), best.shift_px, window, moves)

    def _nearby(
        self, pair: tuple[Tensor, Tensor], centre: Tensor, shift_px: Tensor, window: Tensor, moves: Tensor
    ) -> _Found:
        """The best line of each pair within `window` of the angles `centre` (p, 2), moved by `shift_px` + `moves`."""
        angles = centre[:, :, None] + window  # (p, 2, w)
        raw = self.rays.at(pair[0], angles[:, 0])
        second = self.known.at(pair[1], angles[:, 1])
        factors = torch.view_as_real(second.resolve_conj()).flatten(2).transpose(1, 2)
        scores = []
        for move in moves:
            first = (raw * self.rays.moved_back(shift_px + move)[:, None]) @ self.likelihood.analysis
            product = torch.view_as_real(first * self.likelihood.cross).flatten(2) @ factors
            scores.append(product - self.likelihood.energy_of(first)[:, :, None])
        score, index = torch.stack(scores, dim=1).max(dim=1)  # (p, w, w)
        score = score - self.likelihood.energy_of(second)[:, None]
        best, place = score.flatten(1).max(dim=1)
        row, column = place // len(window), place % len(window)
        move = moves[index.flatten(1).gather(1, place[:, None])[:, 0]]
        return _Found(centre[:, 0] + window[row], centre[:, 1] + window[column], shift_px + move, best)
