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

import torch
from torch import Tensor

from clarice.abinitio.line_scores import ANGLES_PER_CELL, CellScores, LineSettings, cell_scores
from clarice.abinitio.rays import CLEAN_SNR
from clarice.core.progress import Progress, silent
from clarice.geometry.so3 import random_rotations, sphere_grid, symmetry_rotations, view_rotations

# How often a pair's rays follow their model.
_TRUST = 0.5
# Views that an image is tried in, and each sweep's number of others that it is laid beside: 0 stands for all.
_VIEWS = 300
_EARLY_SWEEPS = (48, 48, 48, 64, 64, 96, 96)
_LATE_SWEEPS = (128, 0, 0)
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
    """The best of `starts` searches, in RELION's axes of the point group. Raises ValueError for under three images."""
    count = len(table)
    group = torch.from_numpy(symmetry_rotations(symmetry)).float()
    if count < 3:
        raise ValueError("orientations need three or more images")
    generator = torch.Generator().manual_seed(seed)
    sweeps = starts * len(_EARLY_SWEEPS) + len(_LATE_SWEEPS)
    done = 0
    found = []
    for _ in range(starts):
        rotations = torch.from_numpy(random_rotations(count, generator)).float()
        for beside in _EARLY_SWEEPS:
            _sweep(table, rotations, group, beside, generator)
            done += 1
            progress("orientations", done, sweeps)
        found.append(Oriented(rotations.double(), gain_of(table, rotations, symmetry)))
    best = max(found, key=lambda each: each.gain)
    rotations = best.rotations.float()
    for beside in _LATE_SWEEPS:
        _sweep(table, rotations, group, beside, generator)
        done += 1
        progress("orientations", done, sweeps)
    last = Oriented(rotations.double(), gain_of(table, rotations, symmetry))
    return max(best, last, key=lambda each: each.gain)


def gain_of(table: LineTable, rotations: Tensor, symmetry: str = "C1") -> float:
    """The sum over all pairs for rotations (n, 3, 3)."""
    total = 0.0
    group = torch.from_numpy(symmetry_rotations(symmetry)).float()
    for image in range(len(table)):
        if image:
            others, copies = _copies(rotations, torch.arange(image), group)
            at, cell = _cells(rotations[image : image + 1], copies, table.circle)
            total += float(table.gain[image, others[None], cell, at].double().sum())
    return total


def _copies(rotations: Tensor, rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (J,) of the images once for each member of the group, and their rotations R S: (J · g,), (J · g, 3, 3)."""
    return rows.repeat_interleave(len(group)), (rotations[rows][:, None] @ group).flatten(0, 1)


def _sweep(table: LineTable, rotations: Tensor, group: Tensor, beside: int, generator: torch.Generator) -> None:
    """Lays every image anew, in random order, in place."""
    count, circle = len(table), table.circle
    turned = random_rotations(1, generator)[0]
    views = torch.from_numpy(view_rotations(sphere_grid(_VIEWS)) @ turned).float()
    for image in torch.randperm(count, generator=generator).tolist():
        others = torch.randperm(count, generator=generator)
        others = others[others != image][: beside or count]
        total = torch.zeros((len(views), circle))
        step = max(1, _OTHERS_AT_ONCE // len(group))
        for first in range(0, len(others), step):
            total += _gains(table, image, views, *_copies(rotations, others[first : first + step], group))
        best = int(total.argmax())
        angle = 2 * math.pi * (best % circle) / circle
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        rotations[image] = turn @ views[best // circle]


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
    return (angle_rad * (circle / (2 * torch.pi)) + 0.5 / ANGLES_PER_CELL).floor().long() % circle


def _cells(views: Tensor, others: Tensor, circle: int) -> tuple[Tensor, Tensor]:
    """Cells of the lines that views (V, 3, 3) share with others (J, 3, 3), in the views and in the others: (V, J).

    Of the two ends of a line it is that in the first half of the other's circle.
    """
    line = torch.linalg.cross(
        views[:, None, 2].expand(-1, len(others), -1), others[None, :, 2].expand(len(views), -1, -1)
    )
    in_view = torch.einsum("vjc,vac->avj", line, views[:, :2])
    in_other = torch.einsum("vjc,jac->avj", line, others[:, :2])
    at, cell = (cell_at(torch.atan2(each[1], each[0]), circle) for each in (in_view, in_other))
    half = circle // 2
    return (at + half * (cell >= half)) % circle, cell % half
