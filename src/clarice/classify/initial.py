"""First class references, from single particles; new ones for starving classes, from halves of large ones."""

from __future__ import annotations

import torch
from torch import Tensor

from clarice.classify.references import ClassSums, masked, spectral_prior, wiener
from clarice.classify.ring_blocks import SignalPower
from clarice.geometry.expectation import RingStack, expectation
from clarice.geometry.polar import FourierRings, hartley

# A single particle is a poor rival of an average, so the halves of a class first grow for so many iterations.
SPLIT_ITERATIONS = 4


def expected_score(power: SignalPower, rings: FourierRings) -> Tensor:
    """What a particle's log-likelihood gain (n,) would be on average, were its reference the truth."""
    weights = rings.area_weights() * rings.n_angles
    return 0.5 * power.of_transfer @ (weights * power.mean)


def seed_references(stack: RingStack, power: Tensor) -> Tensor:
    """Each particle of `stack` by itself, Wiener-filtered: Hartley rings (n, R, T)."""
    regularised = stack.power + stack.rings.box**2 / power
    return hartley(stack.filtered / regularised[..., None])


def split_references(
    members: RingStack,
    shifts_px: Tensor,
    power: Tensor,
    mask: Tensor,
    generator: torch.Generator,
    dtype: torch.dtype,
) -> Tensor:
    """Two references (2, R, T) that share the members of one class between them.

    They start from two single members, so that neither has an advantage; `shifts_px` (n, S, 2) are trials.
    """
    rows = torch.randperm(len(members), generator=generator)[:2]
    box = members.rings.box
    references = masked(seed_references(members.subset(rows), power), members.rings, mask)
    for _ in range(SPLIT_ITERATIONS):
        found = expectation(members, references, shifts_px, dtype=dtype)
        sums = ClassSums(found.numerator, found.denominator)
        references = masked(wiener(sums, spectral_prior(sums, box), box), members.rings, mask)
    return references
