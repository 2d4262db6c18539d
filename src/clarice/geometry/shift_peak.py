"""Where between trial shifts a posterior has its peak."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A parabola needs a bend of the log-posterior, over a step on either side, and neighbours that no prior forbids.
_LEAST_BEND, _FORBIDDEN = 1e-3, 1e6


def peak_between(log_mass: Tensor, trials: Tensor) -> Tensor:
    """The shift (b, 2) at which a posterior has its peak, whose logarithm at `trials` (b, S, 2) is `log_mass` (b, S).

    Along each axis of a square grid of trials, row by row, that is the vertex of the parabola through the logarithms at
    the likeliest trial and its two neighbours: exact where the posterior is Gaussian, however narrow. Where that trial
    lies at the rim, or a neighbour is forbidden, and for any other set of trials, it is the mean.
    """
    mean = (log_mass.softmax(dim=1)[..., None] * trials).sum(dim=1)
    edge = math.isqrt(trials.shape[1])
    if edge < 3 or edge**2 != trials.shape[1]:
        return mean
    grid = trials.reshape(-1, edge, edge, 2)  # (b, y, x, 2)
    if not torch.equal(grid[..., 0], grid[:, :1, :, 0].expand(-1, edge, -1)):
        return mean
    best, every = log_mass.argmax(dim=1), torch.arange(len(log_mass), device=log_mass.device)
    row, column = best // edge, best % edge
    on_grid = log_mass.reshape(-1, edge, edge)
    along_x = _vertex(on_grid[every, row], grid[every, row, :, 0], column, mean[:, 0])
    along_y = _vertex(on_grid[every, :, column], grid[every, :, column, 1], row, mean[:, 1])
    return torch.stack([along_x, along_y], dim=1)


def _vertex(log_mass: Tensor, places: Tensor, best: Tensor, otherwise: Tensor) -> Tensor:
    """Of the parabola around `best` (b,) on a line of `places` (b, K), whose log-posterior is `log_mass`."""
    inner = best.clamp(1, places.shape[1] - 2)

    def at(values: Tensor, offset: int) -> Tensor:
        return values.gather(1, (inner + offset)[:, None])[:, 0]

    before, peak, after = (at(log_mass, offset) for offset in (-1, 0, 1))
    bend = before - 2 * peak + after
    usable = (inner == best) & (bend < -_LEAST_BEND) & (torch.minimum(before, after) > peak - _FORBIDDEN)
    step = at(places, 1) - at(places, 0)
    vertex = at(places, 0) + step * 0.5 * (before - after) / torch.where(usable, bend, -1.0)
    return torch.where(usable, vertex, otherwise)
