"""What lies in the specimen beside a particle: its neighbours, carbon film and ice crystals, as potential.

All are drawn in a field twice the box wide, so that the CTF spreads into the box what lies outside of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Neighbours' centres keep this share of the box away, and reach so far from the particle's.
NEAREST_NEIGHBOUR, FARTHEST_NEIGHBOUR = 0.5, 0.95
# Half the range, in boxes, that the edge of a film lies in, and its softness, pixels. Grain is white, and a particle's
# power lies at low frequencies, which the CTF takes away: at this share of the film's mean both are seen alike.
EDGE_REACH, EDGE_SOFTNESS_PX, GRAIN = 0.75, 1.0, 0.3
# Ice crystals in a box on average, their size, pixels at a box of 64, and their mean over the particle's contrast.
CRYSTALS_IN_BOX, CRYSTAL_RADIUS_PX, CRYSTAL_CONTRAST = 0.7, (2.5, 8.0), 3.0
# Lattice planes of hexagonal ice, Å, and the depth of their fringes.
ICE_SPACINGS_ANGSTROM, FRINGE_DEPTH = (3.90, 3.67, 3.44), 0.5


def contrast_of(projections: Tensor, box: int) -> Tensor:
    """Root mean square of projections (n, W, W) over a disk of half the box around the centre, (n, 1, 1)."""
    x, y = _coordinates(projections.shape[-1])
    inside = torch.hypot(x, y) <= box / 4
    return projections[:, inside].square().mean(dim=1).sqrt()[:, None, None]


def draw_neighbours(count: int, box: int, mean: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Neighbours of `count` particles, `mean` each: the particle they lie beside (m,) and their offset (m, 2), pixels.

    Offsets (x, y) are whole pixels, spread evenly over a ring around the particle.
    """
    numbers = torch.poisson(torch.full((count,), float(mean)), generator=generator).long()
    beside = torch.repeat_interleave(torch.arange(count), numbers)
    share, turn = torch.rand((2, len(beside)), generator=generator)
    low, high = NEAREST_NEIGHBOUR**2, FARTHEST_NEIGHBOUR**2
    distance, angle = box * (low + share * (high - low)).sqrt(), 2 * math.pi * turn
    offsets = torch.stack([distance * angle.cos(), distance * angle.sin()], dim=1)
    return beside, offsets.round().long()


def paste(field: Tensor, images: Tensor, rows: Tensor, offsets_px: Tensor) -> None:
    """Adds images (m, W, W), moved by `offsets_px` (m, 2), to rows (m,) of a field (n, W, W), in place; what leaves
    the field is lost.
    """
    width = field.shape[-1]
    for image, row, (x, y) in zip(images, rows.tolist(), offsets_px.tolist(), strict=True):
        there_x, there_y = slice(max(x, 0), width + min(x, 0)), slice(max(y, 0), width + min(y, 0))
        here_x, here_y = slice(max(-x, 0), width + min(-x, 0)), slice(max(-y, 0), width + min(-y, 0))
        field[row, there_y, there_x] += image[here_y, here_x]


def carbon_film(count: int, width: int, generator: torch.Generator) -> Tensor:
    """Amorphous carbon on one side of a straight edge, (count, W, W): potential 1 with grain on it.

    The edge lies anywhere, so that some boxes are covered, some are free and most are crossed.
    """
    turn, place = torch.rand((2, count, 1, 1), generator=generator)
    x, y = _coordinates(width)
    angle = 2 * math.pi * turn
    distance = x * angle.cos() + y * angle.sin() - (2 * place - 1) * EDGE_REACH * width / 2
    grain = torch.randn((count, width, width), generator=generator)
    return torch.sigmoid(distance / EDGE_SOFTNESS_PX) * (1 + GRAIN * grain)


def ice_crystals(count: int, width: int, pixel_size_angstrom: float, generator: torch.Generator) -> Tensor:
    """Hexagonal crystals anywhere in fields (count, W, W), with lattice fringes where pixels are fine enough."""
    numbers = torch.poisson(torch.full((count,), 4 * CRYSTALS_IN_BOX), generator=generator).long()
    x, y = _coordinates(width)
    field = torch.zeros((count, width, width))
    for place in range(int(numbers.max()) if count else 0):
        rows = torch.nonzero(numbers > place).flatten()
        draws = torch.rand((6, len(rows), 1, 1), generator=generator)
        centre_x, centre_y = (draws[:2] - 0.5) * width
        low, high = (size * width / 128 for size in CRYSTAL_RADIUS_PX)
        radius, turn = low + draws[2] * (high - low), draws[3] * math.pi / 3
        sides = [
            ((x - centre_x) * (turn + side).cos() + (y - centre_y) * (turn + side).sin()).abs()
            for side in (0.0, math.pi / 3, 2 * math.pi / 3)
        ]
        crystal = torch.sigmoid((radius - torch.stack(sides).amax(dim=0)) / 0.5) * CRYSTAL_CONTRAST
        visible = [spacing for spacing in ICE_SPACINGS_ANGSTROM if spacing > 2 * pixel_size_angstrom]
        if visible:
            spacing_px = visible[place % len(visible)] / pixel_size_angstrom
            along = x * (2 * math.pi * draws[4]).cos() + y * (2 * math.pi * draws[4]).sin()
            crystal = crystal * (1 + FRINGE_DEPTH * torch.cos(2 * math.pi * (along / spacing_px + draws[5])))
        field[rows] += crystal
    return field


def _coordinates(width: int) -> tuple[Tensor, Tensor]:
    """x and y of each pixel from index W // 2, (W, W)."""
    axis = torch.arange(width, dtype=torch.float32) - width // 2
    return axis[None, :].expand(width, width), axis[:, None].expand(width, width)
