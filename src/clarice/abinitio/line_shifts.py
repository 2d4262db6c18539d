"""Where particles lie in their images: by their centre of mass, and from differences along common lines.

The centre of mass of a projection is the projection of the structure's, so centring on it centres all images alike, to
the precision that the images' background allows. What is left is found from the lines: if the content of image i is
moved by u_i, the rays of a right line differ by

    u_i · c_ij − u_j · c_ji = δ_ij

for directions c_ij (Shkolnisky and Singer 2012, "Center of mass operators for cryo-EM"). One move of the structure,
u_i = M_i t, solves these with δ = 0: of all solutions the shortest is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clarice.abinitio.common_lines import implied_angles
from clarice.abinitio.synchronize import Synchronized
from clarice.geometry.interpolated_slices import shifted

# The window about the present centre, over the particle's diameter; its soft edge, pixels; and how often it moves.
_WINDOW, _EDGE_PX, _MOVES = 1.25, 4.0, 6
# Differences off by more than this count unsquared.
_SOFTENING_PX = 0.25
_STEPS = 20
# Beside the weight an image has on average: keeps the free move of the structure and unsupported images in place.
_RIDGE = 1e-3


def mass_centres(images: Tensor, diameter_px: float, max_shift_px: float) -> Tensor:
    """Centre of mass (n, 2), (x, y) pixels from index L // 2, of images (n, L, L) on a background of 0.

    What lies outside a soft window about it is not counted. It lies within `max_shift_px` in x and y; that of an image
    without mass is 0.
    """
    box = images.shape[-1]
    axis = torch.arange(box, device=images.device, dtype=torch.float32) - box // 2
    radius = _WINDOW * diameter_px / 2
    centre = images.new_zeros((len(images), 2))
    for _ in range(_MOVES):
        away = torch.hypot(axis - centre[:, 0, None, None], axis[:, None] - centre[:, 1, None, None])
        window = (0.5 + (radius - away) / _EDGE_PX).clamp(0, 1)
        mass = images * window
        total = mass.sum(dim=(-2, -1))
        weak = total <= 1e-3 * mass.abs().sum(dim=(-2, -1)) + torch.finfo(mass.dtype).tiny
        moments = torch.stack([(mass * axis).sum(dim=(-2, -1)), (mass * axis[:, None]).sum(dim=(-2, -1))], dim=-1)
        centre = torch.where(weak[:, None], 0.0, moments / torch.where(weak, 1.0, total)[:, None])
        centre = centre.clamp(-max_shift_px, max_shift_px)
    return centre


def moved(images: Tensor, shifts_px: Tensor) -> Tensor:
    """Images (n, L, L) with their content moved by `shifts_px` (n, 2), (x, y) pixels, around the box's edges."""
    box = images.shape[-1]
    return torch.fft.irfft2(shifted(torch.fft.rfft2(images), -shifts_px.float(), box), s=(box, box))


def shifts_along_lines(found: Synchronized, shift_px: Tensor) -> Tensor:
    """How far each image's content is moved, (n, 2), from differences `shift_px` (n, n) along right lines.

    Directions are those that the rotations imply; lines count by how probably they are right, and unsquared where they
    disagree by more than a quarter of a pixel.
    """
    angle = implied_angles(found.rotations)
    return _solved(torch.stack([angle.cos(), angle.sin()], dim=-1), found, shift_px.double())


def _solved(directions: Tensor, found: Synchronized, difference: Tensor) -> Tensor:
    """Least unsquared differences, for `directions` (n, n, 2) known but for the sign of a whole line."""
    count = len(difference)
    sign = torch.sign((directions * found.directions).sum(dim=-1)).triu(1)
    difference = difference * (sign + sign.T)
    trust = torch.nan_to_num(found.right)
    solution = directions.new_zeros((count, 2))
    index = torch.arange(count)
    for _ in range(_STEPS):
        along = (directions * solution[:, None]).sum(dim=-1)
        gap = (along - along.T - difference).abs()
        weight = trust / gap.clamp_min(_SOFTENING_PX)
        matrix = -torch.einsum("ij,ija,jib->iajb", weight, directions, directions)
        own = torch.einsum("ij,ija,ijb->iab", weight, directions, directions)
        matrix[index, :, index, :] = own
        wanted = torch.einsum("ij,ija,ij->ia", weight, directions, difference).reshape(-1)
        square = matrix.reshape(2 * count, 2 * count)
        ridge = _RIDGE * float(square.diagonal().mean()) + torch.finfo(square.dtype).tiny
        identity = torch.eye(2 * count, dtype=square.dtype)
        solution = torch.linalg.solve(square + ridge * identity, wanted).view(count, 2)
    return solution
