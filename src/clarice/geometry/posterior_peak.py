"""Where between trial shifts, or trial angles, a posterior has its peak."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A parabola needs a bend of the log-posterior, over a step on either side, and neighbours that no prior forbids.
_LEAST_BEND, _FORBIDDEN = 1e-3, 1e6


def peaks(log_mass: Tensor, angles: Tensor, likeliest: Tensor, trials: Tensor) -> tuple[Tensor, Tensor]:
    """Steps (b,) along the angle and shifts (b, 2) at which posteriors (T, b, S) over angle and shift have their peaks.

    Angles come in the order of `angles` (T,); that of the shift is at the `likeliest` (b,) of the `trials` (b, S, 2).
    """
    by_angle = torch.empty_like(log_mass[..., 0])
    by_angle[angles] = log_mass[:, torch.arange(len(likeliest), device=likeliest.device), likeliest]
    return peak_step(by_angle), peak_shift(log_mass.logsumexp(dim=0), trials)


def peak_shift(log_mass: Tensor, trials: Tensor) -> Tensor:
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
    along_x = _on_line(on_grid[every, row], grid[every, row, :, 0], column, mean[:, 0])
    along_y = _on_line(on_grid[every, :, column], grid[every, :, column, 1], row, mean[:, 1])
    return torch.stack([along_x, along_y], dim=1)


def peak_step(log_mass: Tensor) -> Tensor:
    """Where on a circle of T steps a posterior (T, b) has its peak, in steps from the first, (b,), within [0, T)."""
    count = len(log_mass)
    best = log_mass.argmax(dim=0)
    before, peak, after = (log_mass.gather(0, ((best + k) % count)[None])[0] for k in (-1, 0, 1))
    offset, usable = _vertex(before, peak, after)
    return (best + torch.where(usable, offset, 0.0)) % count


def _on_line(log_mass: Tensor, places: Tensor, best: Tensor, otherwise: Tensor) -> Tensor:
    """The peak around `best` (b,) on a line of `places` (b, K), whose log-posterior is `log_mass`."""
    inner = best.clamp(1, places.shape[1] - 2)
    before, peak, after = (log_mass.gather(1, (inner + k)[:, None])[:, 0] for k in (-1, 0, 1))
    offset, usable = _vertex(before, peak, after)
    here, following = (places.gather(1, (inner + k)[:, None])[:, 0] for k in (0, 1))
    return torch.where(usable & (inner == best), here + offset * (following - here), otherwise)


def _vertex(before: Tensor, peak: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """The vertex of the parabola through three values a step apart, in steps from the second; and where it has one."""
    bend = before - 2 * peak + after
    usable = (bend < -_LEAST_BEND) & (torch.minimum(before, after) > peak - _FORBIDDEN)
    return 0.5 * (before - after) / torch.where(usable, bend, -1.0), usable
