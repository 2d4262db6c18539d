"""Particles on rings in blocks: the same sums as of the whole stack, held or read again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.classify.blobs import make_blobs

from clarice.classify import ring_blocks
from clarice.classify.initial import seed_references
from clarice.classify.ring_blocks import MOST_BLOCKS, RingBlocks, blocks_of, mean_signal_power
from clarice.geometry.expectation import expectation, shift_grid
from clarice.geometry.polar import FourierRings
from clarice.physics.noisy_set import NoisySet

RINGS = FourierRings.matching(32, 8, 20)


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> NoisySet:
    """130 particles in blocks of at most 40."""
    monkeypatch.setattr(ring_blocks, "BLOCK", 40)
    return make_blobs(count=130).observed


@pytest.mark.parametrize("count", [1, 2048, 2049, 5000, 200_000])
def test_blocks_hold_every_row_once_in_order_and_are_not_too_many(count: int) -> None:
    blocks = blocks_of(count)
    assert np.array_equal(np.concatenate(blocks), np.arange(count))
    sizes = [len(block) for block in blocks]
    assert max(sizes) - min(sizes) <= 1
    assert len(blocks) == min(-(-count // 2048), MOST_BLOCKS)


@pytest.mark.parametrize("held", [True, False])
def test_power_is_that_of_the_whole_stack(observed: NoisySet, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    monkeypatch.setattr(ring_blocks, "IN_MEMORY_BYTES", 2**30 if held else 0)
    whole = observed.rings(RINGS, np.arange(130))
    power = RingBlocks(observed, RINGS).power()
    assert torch.allclose(power.mean, mean_signal_power(whole), rtol=1e-5)
    assert torch.equal(power.of_transfer, whole.power)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("rows", [np.arange(130), np.array([3, 39, 40, 41, 129]), np.arange(50, 60)], ids=len)
def test_expectation_is_that_of_the_whole_stack(
    observed: NoisySet, monkeypatch: pytest.MonkeyPatch, rows: np.ndarray, local: bool, held: bool
) -> None:
    monkeypatch.setattr(ring_blocks, "IN_MEMORY_BYTES", 2**30 if held else 0)
    whole = observed.rings(RINGS, rows)
    references = seed_references(whole.subset(torch.arange(4)), mean_signal_power(whole))
    shifts, prior = shift_grid(2.0, 2.0), torch.tensor([0.0, -0.5, 0.2, 0.1])
    if local:
        shifts = shifts + torch.arange(len(rows))[:, None, None] / 100
    slow = expectation(whole, references, shifts, log_prior=prior)
    fast = RingBlocks(observed, RINGS).expectation(torch.from_numpy(rows), references, shifts, prior, torch.float32)
    for name in ("log_evidence", "reference", "angle_rad", "shift_px", "confidence"):
        assert torch.allclose(getattr(fast, name), getattr(slow, name), atol=1e-4), name
    for name in ("numerator", "denominator"):
        assert torch.allclose(getattr(fast, name), getattr(slow, name), rtol=1e-4, atol=1e-2), name
    assert torch.allclose(fast.reference_mass, slow.reference_mass.sum(dim=0, keepdim=True), rtol=1e-4)


def test_a_large_stack_is_not_held(observed: NoisySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_blocks, "IN_MEMORY_BYTES", 0)
    blocks = RingBlocks(observed, RINGS)
    blocks.power()
    assert blocks._held == {}
