"""Common lines: where the central planes of two projections meet in Fourier space, for all pairs of a set.

Of all pairs of rays, one from each image, and of all moves along them, that with the largest likelihood ratio is kept
(`abinitio.rays`). All angles are gone through coarsely (`abinitio.line_scores`), then the best cells of each pair
finely with all frequencies. After van Heel 1987 and Singer and Shkolnisky 2011 (SIAM J. Imaging Sci. 4, section 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.line_scores import ANGLES_PER_CELL, SHIFT_STEP_PX, CellScores, LineSettings, cell_scores
from clarice.abinitio.rays import CLEAN_SNR, LineLikelihood, Rays
from clarice.core.progress import Progress, silent
from clarice.metrics.orientation import common_line_angles_deg

# Pairs that are looked at finely at once.
_PAIRS_AT_ONCE = 4096
# Candidates of a pair all of whose angles are gone through.
_LEADING = 3
# How far, in coarse steps, a line may lie from the coarse angle that found it.
_BEYOND_HALF_A_STEP = 0.65


@dataclass(frozen=True)
class CommonLines:
    """Lines of all pairs of n images; each field (n, n), its diagonal 0.

    `angle_rad[i, j]`: direction in image i, from +x towards +y, of the ray that it shares with image j, whose own is
    `angle_rad[j, i]`. `shift_px[i, j]`: by how much the content of i lies further along it than that of j.
    `confidence`: how probable the line is beside all others, were the model of the rays right.
    """

    angle_rad: Tensor
    shift_px: Tensor
    confidence: Tensor

    @classmethod
    def none(cls, count: int) -> CommonLines:
        """Lines yet to be found."""
        return cls(*(torch.zeros((count, count)) for _ in range(3)))

    def __len__(self) -> int:
        return len(self.angle_rad)

    def directions(self) -> Tensor:
        """Unit vectors (n, n, 2) of the lines in the images."""
        return torch.stack([self.angle_rad.cos(), self.angle_rad.sin()], dim=-1)


def find_common_lines(
    images: Tensor, settings: LineSettings, snr: Tensor | float = CLEAN_SNR, progress: Progress = silent
) -> CommonLines:
    """Common lines of all pairs of images (n, L, L), centred but for `max_shift_px` and free of CTF.

    `snr`: of the Fourier coefficients of each radius 1, 2, … (R or more,), or of all. Raises ValueError for fewer than
    two images.
    """
    count = len(images)
    search = _FineSearch.of(images, settings, snr, steps=1)
    lines = CommonLines.none(count)
    done, pairs = 0, count * (count - 1) // 2
    for scored in cell_scores(images, settings, snr):
        cells = _best_cells(scored, settings.candidates)
        search.enter(lines, cells)
        done += len(cells.first)
        progress("common lines", done, pairs)
    return lines


def lines_near(
    images: Tensor,
    rotations: Tensor,
    settings: LineSettings,
    snr: Tensor | float = CLEAN_SNR,
    progress: Progress = silent,
) -> CommonLines:
    """The lines of `find_common_lines` nearest to those that `rotations` (n, 3, 3) imply: within a cell of them.

    Their confidence is 1: nothing else was looked at.
    """
    count = len(images)
    search = _FineSearch.of(images, settings, snr, steps=ANGLES_PER_CELL)
    lines = CommonLines.none(count)
    implied = implied_angles(rotations) / torch.pi
    first, second = torch.triu_indices(count, count, 1)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        pair = first[start : start + _PAIRS_AT_ONCE], second[start : start + _PAIRS_AT_ONCE]
        middle = torch.stack([implied[pair], implied[pair[::-1]]], dim=-1)[:, None]
        search.enter(lines, _Cells(*pair, middle.float(), torch.ones(len(pair[0]))))
        progress("lines near views", start + len(pair[0]), len(first))
    return lines


def implied_angles(rotations: Tensor) -> Tensor:
    """Directions (n, n) of the lines that rotations (n, 3, 3) imply, as `CommonLines.angle_rad` holds them."""
    views = rotations.double().numpy()
    angle = np.deg2rad(common_line_angles_deg(views[:, None], views[None])[..., 0])
    # Of (j, i) it gives the other end of the line of (i, j).
    return torch.from_numpy(angle + np.pi * np.tri(len(views), k=-1))


@dataclass(frozen=True)
class _Cells:
    """Candidates of p pairs (`first`, `second`), best first: angles of their middles (p, c, 2), in turns of π.

    `confidence` (p,) of the first, beside all cells.
    """

    first: Tensor
    second: Tensor
    middle: Tensor
    confidence: Tensor


def _best_cells(scored: CellScores, candidates: int) -> _Cells:
    cells, scores = scored.scores.shape[1], scored.scores.flatten(1)
    value, cell = scores.topk(min(candidates, scores.shape[1]), dim=1)
    middle = torch.stack([cell // (2 * cells), cell % (2 * cells)], dim=-1) + 0.5 - 0.5 / ANGLES_PER_CELL
    confidence = torch.exp(value[:, 0] - torch.logsumexp(scores, dim=1))
    return _Cells(scored.first, scored.second, middle / cells, confidence)


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
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Found(*(torch.where(mine, ours, theirs) for ours, theirs in both))


class _FineSearch:
    """Goes through the angles of cells with all frequencies: first a few of each candidate, then all near the best."""

    def __init__(self, rays: Rays, snr: Tensor, moves: Tensor, step: float, steps: int) -> None:
        self.rays, self.moves = rays, moves
        self.likelihood = LineLikelihood.of(rays, snr)
        known = rays.values @ self.likelihood.analysis
        self.known = torch.view_as_real(torch.cat([known, known.conj()], dim=1).resolve_conj()).flatten(2)
        self.weights = self.likelihood.cross.repeat_interleave(2)
        self.energy = self.likelihood.energy_of(known).repeat(1, 2)
        self.few = (torch.arange(-steps, steps + 1) * step).round().long()
        reach = math.ceil(_BEYOND_HALF_A_STEP * step)
        self.all = torch.arange(-reach, reach + 1)
        finer = torch.tensor([-0.5, 0.0, 0.5]) * SHIFT_STEP_PX
        self.finer_moves = finer if len(moves) > 1 else moves

    @classmethod
    def of(cls, images: Tensor, settings: LineSettings, snr: Tensor | float, steps: int) -> _FineSearch:
        """For images (n, L, L), looking so many coarse angles to either side of a cell's middle.

        Raises ValueError for fewer than two images.
        """
        if len(images) < 2:
            raise ValueError("common lines need two or more images")
        box = images.shape[-1]
        rays = Rays.sampled(images, settings.radius_px(box), settings.n_angles // 2)
        ratio = settings.snr_by_radius(snr, box)
        return cls(rays, ratio, settings.moves_px(), rays.half / (ANGLES_PER_CELL * settings.cells(box)), steps)

    def enter(self, lines: CommonLines, cells: _Cells) -> None:
        """Writes the best lines near `cells` into `lines`."""
        found = self.around(cells)
        at, back = (cells.first, cells.second), (cells.second, cells.first)
        lines.confidence[at] = lines.confidence[back] = cells.confidence
        step = math.pi / self.rays.half
        lines.angle_rad[at], lines.angle_rad[back] = found.first * step, found.second * step
        lines.shift_px[at], lines.shift_px[back] = found.shift_px, -found.shift_px

    def around(self, cells: _Cells) -> _Found:
        """The best line of each pair near one of its candidates."""
        pairs, candidates = cells.middle.shape[:2]
        each = cells.first.repeat_interleave(candidates), cells.second.repeat_interleave(candidates)
        centre = (cells.middle * self.rays.half).round().long().flatten(0, 1)
        rough = self._nearby(each, centre, torch.zeros(len(centre)), self.few, self.moves)
        leading = rough.score.view(pairs, candidates).topk(min(_LEADING, candidates), dim=1).indices
        best: _Found | None = None
        for place in leading.unbind(dim=1):
            at = torch.arange(pairs) * candidates + place
            lines = torch.stack([rough.first[at], rough.second[at]], dim=-1)
            found = self._nearby((cells.first, cells.second), lines, rough.shift_px[at], self.all, self.finer_moves)
            best = found if best is None else best.better_of(found)
        assert best is not None
        return best

    def _nearby(
        self, pair: tuple[Tensor, Tensor], centre: Tensor, shift_px: Tensor, window: Tensor, moves: Tensor
    ) -> _Found:
        """The best line of each pair within `window` of the angles `centre` (p, 2), moved by `shift_px` + `moves`."""
        angles = centre[:, :, None] + window  # (p, 2, w)
        first, second = ((image[:, None], angles[:, side] % (2 * self.rays.half)) for side, image in enumerate(pair))
        factors = self.known[second].transpose(1, 2)
        if len(moves) == 1:  # moves are symmetric about 0, so nothing is moved
            score = (self.known[first] * self.weights) @ factors - self.energy[first][:, :, None]
            index = torch.zeros_like(score, dtype=torch.long)
        else:
            raw = self.rays.at(pair[0], angles[:, 0])
            tried = [self._moved_scores(raw, shift_px + move, factors) for move in moves]
            score, index = torch.stack(tried, dim=1).max(dim=1)  # (p, w, w)
        score = score - self.energy[second][:, None]
        best, place = score.flatten(1).max(dim=1)
        row, column = place // len(window), place % len(window)
        move = moves[index.flatten(1).gather(1, place[:, None])[:, 0]]
        return _Found(centre[:, 0] + window[row], centre[:, 1] + window[column], shift_px + move, best)

    def _moved_scores(self, raw: Tensor, shift_px: Tensor, factors: Tensor) -> Tensor:
        """λ (p, w, w) but for the second ray's energy, of rays (p, w, R) moved back by `shift_px` (p,)."""
        first = (raw * self.rays.moved_back(shift_px)[:, None]) @ self.likelihood.analysis
        product = torch.view_as_real(first).flatten(2) * self.weights @ factors
        return product - self.likelihood.energy_of(first)[:, :, None]
