"""The particles of a stack on Fourier rings, block by block: what several processes share out, and memory can bound."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from clarice.core.large_array import IN_MEMORY_BYTES
from clarice.core.particles import RowIndex
from clarice.geometry.expectation import Expectation, RingStack, expectation
from clarice.geometry.polar import FourierRings
from clarice.io.kept_results import Arrays, map_parts
from clarice.physics.noisy_set import NoisySet

# Particles in a block, until there are so many blocks: small parts of large stacks cost more than they share out.
BLOCK, MOST_BLOCKS = 2048, 64


def blocks_of(count: int) -> list[RowIndex]:
    """Rows 0..count in blocks of about equal size, which depend on `count` alone."""
    return np.array_split(np.arange(count), min(-(-count // BLOCK), MOST_BLOCKS))


def mean_signal_power(stack: RingStack) -> Tensor:
    """|X|² of each ring (R,), averaged over the particles: E|H y|² = H⁴ |X|² + H² L²."""
    return _signal_power(*_power_sums(stack))


def _power_sums(stack: RingStack) -> tuple[Tensor, Tensor]:
    """Σ (|H y|² − H² L²) and Σ H⁴ of each ring, (R,), over the particles."""
    excess = stack.filtered.abs().square().mean(dim=-1) - stack.power * stack.rings.box**2
    return excess.sum(dim=0), stack.power.square().sum(dim=0)


def _signal_power(excess: Tensor, squared: Tensor) -> Tensor:
    power = excess / squared.clamp_min(1e-12)
    return power.clamp_min(1e-3 * float(power.max().clamp_min(1e-6)))


@dataclass(frozen=True)
class SignalPower:
    """`mean` (R,) as of `mean_signal_power`; `of_transfer` (n, R): each particle's mean H²."""

    mean: Tensor
    of_transfer: Tensor


@dataclass
class RingBlocks:
    """All particles of `observed` on `rings`.

    Blocks that were transformed are held while all of them together are no large thing; those of a larger stack are
    read and transformed again whenever they are wanted.
    """

    observed: NoisySet
    rings: FourierRings
    blocks: list[RowIndex] = field(init=False)
    _held: dict[int, RingStack] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.blocks = blocks_of(len(self.observed))
        self._holds = 4 * len(self.observed) * self.rings.count * (self.rings.n_angles + 1) <= IN_MEMORY_BYTES

    def of(self, rows: RowIndex) -> RingStack:
        """Any rows, transformed anew."""
        return self.observed.rings(self.rings, rows)

    def power(self) -> SignalPower:
        """The power of the signal over all particles."""

        def work(rows: RowIndex) -> Arrays:
            stack = self._within_a_block(rows)
            excess, squared = _power_sums(stack)
            return {"excess": excess.numpy(), "squared": squared.numpy(), "power": stack.power.numpy()}

        found = [part for _, part in map_parts("signal power", work, self.blocks, at_once=False)]
        excess, squared = (torch.from_numpy(sum(part[name] for part in found)) for name in ("excess", "squared"))
        return SignalPower(
            _signal_power(excess, squared), torch.from_numpy(np.concatenate([part["power"] for part in found]))
        )

    def expectation(
        self,
        rows: Tensor,
        references: Tensor,
        shifts_px: Tensor,
        log_prior: Tensor,
        dtype: torch.dtype,
    ) -> Expectation:
        """One expectation step of the particles `rows` (ascending) against `references`, summed over the blocks.

        `shifts_px` (S, 2), or (m, S, 2) for each of the m rows. Averages alone are wanted of the posterior's mass, so
        `reference_mass` of the result is (1, J): its sum over particles.
        """
        wanted = rows.numpy()
        edges = np.searchsorted(wanted, [block[0] for block in self.blocks[1:]])
        parts = [part for part in np.split(np.arange(len(wanted)), edges) if len(part)]

        def work(part: RowIndex) -> Arrays:
            shifts = shifts_px if shifts_px.dim() == 2 else shifts_px[torch.from_numpy(part)]
            stack = self._within_a_block(wanted[part])
            found = expectation(stack, references, shifts, log_prior=log_prior, dtype=dtype)
            kept = {name: value.numpy() for name, value in vars(found).items()}
            return {**kept, "reference_mass": found.reference_mass.sum(dim=0, keepdim=True).numpy()}

        found = [part for _, part in map_parts("2D classes", work, parts, at_once=False)]
        whole = {name: torch.from_numpy(_joined(name, [part[name] for part in found])) for name in found[0]}
        return Expectation(**whole)

    def _within_a_block(self, rows: RowIndex) -> RingStack:
        """Rows of one block."""
        if not self._holds:
            return self.of(rows)
        number = next(number for number, block in enumerate(self.blocks) if rows[0] <= block[-1])
        block = self.blocks[number]
        if number not in self._held:
            self._held[number] = self.of(block)
        held = self._held[number]
        return held if len(rows) == len(block) else held.subset(torch.from_numpy(rows - block[0]))


_SUMS = ("numerator", "denominator", "reference_mass")


def _joined(name: str, parts: list[np.ndarray]) -> np.ndarray:
    """What was found of all parts: sums where it is a sum over particles, else one after the other."""
    return np.asarray(sum(parts[1:], parts[0]) if name in _SUMS else np.concatenate(parts))
