"""Orientations of the largest likelihood, given how well every pair of rays of every pair of images fits.

The best line of a pair is often wrong where images are poor, while the right one is among its best. So none is chosen:
orientations are searched for that make

    Σ_{i<j} log(1 − p + p ρ_ij(θ_ij, θ_ji))

largest, ρ_ij being how probable the line that R_i and R_j imply is for the pair, over that of any line, and p how often
images are what they should be. One image after the other is laid where it fits the others best, over all of SO(3), from
random orientations on; at first beside few others, drawn anew each time, at last beside all. Directions of lines of
random orientations are independent and uniform, so no view is favoured: views that all lie alike, in which case any
line would do, gain nothing from it. Two images of a structure with a point group share a line for each of its rotations
S, that of R_i and R_j S: all of them are summed over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from clarice.abinitio.line_scores import ANGLES_PER_CELL, CellScores, LineSettings, cell_scores
from clarice.abinitio.rays import CLEAN_SNR
from clarice.core.parallel import ordered_map
from clarice.core.progress import Progress, silent
from clarice.geometry.so3 import random_rotations, sphere_grid, symmetry_rotations, view_rotations

# How often a pair's rays follow their model.
_TRUST = 0.5
# Views that an image is tried in, and each sweep's number of others that it is laid beside: 0 stands for all.
_VIEWS = 300
_EARLY_SWEEPS = (48, 48, 48, 64, 64, 96, 96)
_LATE_SWEEPS = (128, 0, 0)
# Images that every start is made with, and images that are laid side by side.
_FIRST_IMAGES, _TOGETHER = 300, 8
# Others, each with its copies under the point group, that are gone through at once.
_OTHERS_AT_ONCE = 512


@dataclass(frozen=True)
class LineTable:
    """log(1 − p + p ρ) of every pair of images and of cells on their circles: (n, n, cells, 4 · cells), float16.

    [i, j, c, d]: the ray in cell c of image j is that in cell d of image i (`cell_at`). c goes half round, since
    opposite rays of both images are one line; d goes round twice, so that what an image gains in all its turns is a run
    of the table.
    """

    gain: Tensor

    @classmethod
    def of(
        cls, images: Tensor, settings: LineSettings, snr: Tensor | float = CLEAN_SNR, progress: Progress = silent
    ) -> LineTable:
        """From images (n, L, L) as for `find_common_lines`."""
        count, cells = len(images), settings.cells(images.shape[-1])
        table = torch.zeros((count, count, cells, 4 * cells), dtype=torch.float16)
        done, pairs = 0, count * (count - 1) // 2
        for scored in cell_scores(images, settings, snr):
            gain = _gain(scored)
            table[scored.first, scored.second] = torch.cat([gain, gain], dim=1)[..., :cells].transpose(1, 2).half()
            table[scored.second, scored.first] = torch.cat([gain, gain], dim=2)[:, :cells].half()
            done += len(scored.first)
            progress("fit of rays", done, pairs)
        return cls(table)

    def __len__(self) -> int:
        return len(self.gain)

    @property
    def circle(self) -> int:
        """Cells around a circle."""
        return 2 * self.gain.shape[2]


def _gain(scored: CellScores) -> Tensor:
    """log(1 − p + p ρ) of pairs for cells all round both circles, (p, first's, second's)."""
    scores = scored.scores
    cells = scores.shape[1]
    evidence = torch.logsumexp(scores.flatten(1), dim=1) - math.log(scores[0].numel())
    ratio = torch.exp(scores - evidence[:, None, None])
    gain = torch.log1p(_TRUST * (ratio - 1))
    return torch.cat([gain, gain.roll(cells, dims=2)], dim=1)  # opposite rays of both are one line


@dataclass(frozen=True)
class Oriented:
    """Rotations (n, 3, 3) float64 and their `gain`: the sum above, in natural logarithms, over all pairs."""

    rotations: Tensor
    gain: float


def search_orientations(
    table: LineTable, starts: int = 2, symmetry: str = "C1", seed: int = 0, progress: Progress = silent
) -> Oriented:
    """The best of `starts` searches, in RELION's axes of the point group. Raises ValueError for under three images.

    Every start is made with the same few images; the others are laid beside those of the best one.
    """
    count = len(table)
    if count < 3:
        raise ValueError("orientations need three or more images")
    generator = torch.Generator().manual_seed(seed)
    everyone = torch.randperm(count, generator=generator)
    few, rest = everyone[:_FIRST_IMAGES], everyone[_FIRST_IMAGES:]
    total, done = starts * len(_EARLY_SWEEPS) + len(_LATE_SWEEPS), 0
    found = []
    for _ in range(starts):
        laying = _Laying(table, torch.from_numpy(random_rotations(count, generator)).float(), symmetry, generator)
        for beside in _EARLY_SWEEPS:
            laying.sweep(few, few, beside)
            done += 1
            progress("orientations", done, total)
        found.append((laying.gain(few), laying))
    laying = max(found, key=lambda each: each[0])[1]
    laying.sweep(rest, few, _LATE_SWEEPS[0])
    reached = []
    for beside in _LATE_SWEEPS:
        laying.sweep(everyone, everyone, beside)
        done += 1
        progress("orientations", done, total)
        reached.append(Oriented(laying.rotations.double(), laying.gain(everyone)))
    return max(reached, key=lambda each: each.gain)


class _Laying:
    """Rotations (n, 3, 3) on their way: images are laid anew, each beside others that stay."""

    def __init__(self, table: LineTable, rotations: Tensor, symmetry: str, generator: torch.Generator) -> None:
        self.table, self.rotations, self.generator = table, rotations, generator
        self.group = torch.from_numpy(symmetry_rotations(symmetry)).float()

    def sweep(self, rows: Tensor, among: Tensor, beside: int) -> None:
        """Lays the images `rows` anew, in random order, beside so many of `among`; 0 stands for all of them.

        A few are laid at a time, side by side: they do not see one another's moves.
        """
        turned = random_rotations(1, self.generator)[0]
        views = torch.from_numpy(view_rotations(sphere_grid(_VIEWS)) @ turned).float()
        order = rows[torch.randperm(len(rows), generator=self.generator)].tolist()
        for first in range(0, len(order), _TOGETHER):
            images = order[first : first + _TOGETHER]
            drawn = [among[torch.randperm(len(among), generator=self.generator)] for _ in images]
            chosen = [
                others[others != image][: beside or len(others)] for image, others in zip(images, drawn, strict=True)
            ]
            lay = partial(self._laid, views)
            self.rotations[images] = torch.stack(list(ordered_map(lay, zip(images, chosen, strict=True))))

    def _laid(self, views: Tensor, work: tuple[int, Tensor]) -> Tensor:
        """The rotation (3, 3) of an image that gains most beside others (J,), of `views` (V, 3, 3) and all turns."""
        image, others = work
        circle = self.table.circle
        total = torch.zeros((len(views), circle))
        step = max(1, _OTHERS_AT_ONCE // len(self.group))
        for first in range(0, len(others), step):
            copies = _copies(self.rotations, others[first : first + step], self.group)
            total += _gains(self.table, image, views, *copies)
        best = int(total.argmax())
        angle = 2 * math.pi * (best % circle) / circle
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        return turn @ views[best // circle]

    def gain(self, rows: Tensor) -> float:
        """The sum over all pairs of the images `rows`."""
        total = 0.0
        for number in range(1, len(rows)):
            image = int(rows[number])
            others, copies = _copies(self.rotations, rows[:number], self.group)
            at, cell = _cells(self.rotations[image : image + 1], copies, self.table.circle)
            total += float(self.table.gain[image, others[None], cell, at].double().sum())
        return total


def _copies(rotations: Tensor, rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (J,) of the images once for each member of the group, and their rotations R S: (J · g,), (J · g, 3, 3)."""
    return rows.repeat_interleave(len(group)), (rotations[rows][:, None] @ group).flatten(0, 1)


def _gains(table: LineTable, image: int, views: Tensor, others: Tensor, copies: Tensor) -> Tensor:
    """What an image gains beside `others` (J,) of rotations `copies` (J, 3, 3), in each view and turn: (V, T)."""
    circle, gain = table.circle, table.gain[image]
    start, cell = _cells(views, copies, circle)  # (V, J) each
    windows = gain.as_strided((gain.numel() - circle + 1, circle), (1, 1), gain.storage_offset())
    place = (others[None] * (circle // 2) + cell) * (2 * circle) + start
    total: Tensor = windows[place].sum(dim=1, dtype=torch.float32)
    return total


def cell_at(angle_rad: Tensor, circle: int) -> Tensor:
    """The cell of `circle` around a circle whose rays lie nearest to an angle.

    Cell c has the rays at c, c + 1/3 and c + 2/3 cells, so that it stands for what lies from c − 1/6 on.
    """
    cell = (angle_rad * (circle / (2 * torch.pi)) + 0.5 / ANGLES_PER_CELL).floor()
    return (cell - circle * (cell / circle).floor()).long()  # several times as fast as the remainder of whole numbers


def _cells(views: Tensor, others: Tensor, circle: int) -> tuple[Tensor, Tensor]:
    """Cells of the lines that views (V, 3, 3) share with others (J, 3, 3), in the views and in the others: (V, J).

    Of the two ends of a line it is that in the first half of the other's circle. Its direction is z_v × z_o, whose
    product with x_v is −y_v · z_o, and so on: axes x, y, z are the rows of a rotation.
    """
    x_v, y_v, z_v = views.unbind(dim=1)
    x_o, y_o, z_o = others.unbind(dim=1)
    in_view = torch.atan2(x_v @ z_o.T, -y_v @ z_o.T)
    in_other = torch.atan2(-z_v @ x_o.T, z_v @ y_o.T)
    at, cell = cell_at(in_view, circle), cell_at(in_other, circle)
    half = circle // 2
    opposite = cell >= half
    at = at + half * opposite
    return torch.where(at >= circle, at - circle, at), torch.where(opposite, cell - half, cell)
