"""Nearest neighbours of each particle over in-plane angle, and the averages of neighbours.

Every particle, once centred, is a reference for every other: the score is the correlation of i with the
Wiener-filtered j seen through the CTF of i, and the angular operation tries all angles at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.classify.average import aligned_rings
from clarice.classify.initial import seed_references
from clarice.classify.references import ClassSums, masked, spectral_prior, wiener
from clarice.classify.ring_blocks import mean_signal_power
from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.geometry import angular
from clarice.geometry.expectation import RingStack
from clarice.geometry.polar import from_hartley, hartley


@dataclass(frozen=True)
class Neighbours:
    """The k nearest neighbours of each particle, the most alike first; each (n, k).

    `rows` are their row numbers, `angle_rad` turns the neighbour onto the particle (+x towards +y) and
    `score` is their correlation, comparable along a row. Row −1 and score −inf where there are fewer than k.
    """

    rows: Tensor
    angle_rad: Tensor
    score: Tensor


def centred_stack(stack: RingStack, shifts_px: Tensor) -> RingStack:
    """The stack with each particle moved by `shifts_px` (n, 2), which centres it."""
    return RingStack(stack.rings, stack.filtered * stack.rings.shift_phases(shifts_px), stack.power)


def nearest_neighbours(
    stack: RingStack,
    count: int,
    mask: Tensor,
    *,
    group: Tensor | None = None,
    dtype: torch.dtype | None = None,
    memory_mb: float = 128.0,
    progress: Progress = silent,
) -> Neighbours:
    """The `count` nearest neighbours among all centred particles of `stack`, which grows with n².

    With `group` (n,), such as the half set, neighbours come from the particle's own group only. `mask`
    (L, L) is laid over the references. Raises UsageError for a count below 1.
    """
    if count < 1:
        raise UsageError(f"the number of neighbours {count} must be at least 1")
    dtype = angular.fast_dtype() if dtype is None else dtype
    total, n_angles = len(stack), stack.rings.n_angles
    weights = stack.rings.area_weights()
    references = masked(seed_references(stack, mean_signal_power(stack)), stack.rings, mask)
    spectrum = angular.to_spectrum(references * weights[:, None], dtype)
    power = n_angles * weights * references.square().mean(dim=-1)  # (n, R)
    signals = angular.to_spectrum(hartley(stack.filtered), dtype)
    kept = min(count, total)
    rows = torch.full((total, count), -1, dtype=torch.long)
    angle, score = torch.zeros((total, count)), torch.full((total, count), -torch.inf)
    step = min(total, angular.rows_within(memory_mb, total, n_angles, dtype))
    for start in range(0, total, step):
        part = slice(start, min(start + step, total))
        best, turn = angular.correlate_spectra(signals[:, part].contiguous(), spectrum, n_angles).max(dim=0)
        alike = best.float() / (stack.power[part] @ power.T).sqrt().clamp_min(1e-12)
        here = torch.arange(part.start, part.stop)
        alike[here - start, here] = -torch.inf
        if group is not None:
            alike[group[part, None] != group[None]] = -torch.inf
        top = alike.topk(kept, dim=1)
        found = torch.isfinite(top.values)
        rows[part, :kept] = torch.where(found, top.indices, -1)
        score[part, :kept] = top.values
        angle[part, :kept] = turn.gather(1, top.indices).float() * (2 * torch.pi / n_angles)
        progress("neighbours", part.stop, total)
    return Neighbours(rows, angle, score)


def neighbour_averages(stack: RingStack, neighbours: Neighbours, rows: Tensor) -> Tensor:
    """CTF-corrected averages (len(rows), L, L) of the particles `rows` with their neighbours, in their own angle.

    `stack` may have more rings than the neighbours were found on; its particles are centred.
    """
    box = stack.rings.box
    sums = []
    for row in rows.tolist():
        others = neighbours.rows[row]
        known = others >= 0
        members = torch.cat([torch.tensor([row]), others[known]])
        # The neighbour turned by +angle lies on the particle, so it is turned back by −angle.
        angles = torch.cat([torch.zeros(1), -neighbours.angle_rad[row][known]])
        part = stack.subset(members)
        aligned = aligned_rings(part, torch.zeros((len(members), 2)), angles)
        sums.append((aligned.sum(dim=0), part.power.sum(dim=0)))
    total = ClassSums(torch.stack([signal for signal, _ in sums]), torch.stack([weight for _, weight in sums]))
    signals = wiener(total, spectral_prior(total, box), box)
    return stack.rings.to_images(from_hartley(signals))
