"""Neighbours show the same shape at the stated angle, stay in their group, and agree with a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.classify.blobs import Blobs, make_blobs

from clarice.classify.initial import seed_references
from clarice.classify.neighbours import centred_stack, nearest_neighbours, neighbour_averages
from clarice.classify.references import masked, soft_disk
from clarice.classify.ring_blocks import mean_signal_power
from clarice.core.errors import UsageError
from clarice.geometry.expectation import RingStack
from clarice.geometry.polar import FourierRings, hartley

MASK = soft_disk(32, 12)


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    return make_blobs(count=120, snr=0.5)


@pytest.fixture(scope="module")
def stack(blobs: Blobs) -> RingStack:
    rings = FourierRings.up_to(32, 8, 26)
    raw = blobs.observed.rings(rings, np.arange(120))
    return centred_stack(raw, torch.from_numpy(blobs.shift_px).float())


def test_neighbours_are_the_same_shape_at_the_right_angle(blobs: Blobs, stack: RingStack) -> None:
    found = nearest_neighbours(stack, 5, MASK)
    rows = found.rows.numpy()
    same = blobs.shape[rows] == blobs.shape[:, None]
    assert same.mean() > 0.95
    # Content of i is content of j turned by the angle found.
    difference = blobs.angle_rad[:, None] - blobs.angle_rad[rows] - found.angle_rad.numpy()
    error_deg = np.abs(np.rad2deg(np.angle(np.exp(1j * difference))))[same]
    assert np.median(error_deg) < 6
    assert (rows != np.arange(120)[:, None]).all()


def test_scores_agree_with_a_plain_loop(stack: RingStack) -> None:
    few = stack.subset(torch.arange(12))
    found = nearest_neighbours(few, 11, MASK, dtype=torch.float32, memory_mb=0.01)
    references = masked(seed_references(few, mean_signal_power(few)), few.rings, MASK)
    signals, weights = hartley(few.filtered), few.rings.area_weights()
    for i in (0, 7):
        scores = {}
        for j in set(range(12)) - {i}:
            power = few.rings.n_angles * (weights * few.power[i] * references[j].square().mean(dim=-1)).sum()
            turned = [
                float((weights[:, None] * signals[i] * references[j].roll(k, dims=-1)).sum() / power.sqrt())
                for k in range(few.rings.n_angles)
            ]
            scores[j] = (max(turned), int(np.argmax(turned)))
        order = sorted(scores, key=lambda j: -scores[j][0])
        assert found.rows[i].tolist() == order
        for place, j in enumerate(order):
            assert float(found.score[i, place]) == pytest.approx(scores[j][0], rel=1e-3, abs=1e-3)
            angle = scores[j][1] * 2 * np.pi / few.rings.n_angles
            assert float(found.angle_rad[i, place]) == pytest.approx(angle, abs=1e-5)


def test_groups_never_share_a_neighbour(stack: RingStack) -> None:
    half = torch.arange(120) % 2
    found = nearest_neighbours(stack, 6, MASK, group=half)
    assert (half[found.rows] == half[:, None]).all()


def test_lone_particles_have_no_neighbours(stack: RingStack) -> None:
    few = stack.subset(torch.arange(3))
    found = nearest_neighbours(few, 4, MASK, group=torch.tensor([0, 0, 1]))
    assert found.rows.tolist() == [[1, -1, -1, -1], [0, -1, -1, -1], [-1, -1, -1, -1]]
    assert neighbour_averages(few, found, torch.arange(3)).shape == (3, 32, 32)
    with pytest.raises(UsageError, match="at least 1"):
        nearest_neighbours(few, 0, MASK)


def test_averages_of_neighbours_are_nearer_to_the_truth(blobs: Blobs, stack: RingStack) -> None:
    rows = torch.arange(20)
    averages = neighbour_averages(stack, nearest_neighbours(stack, 15, MASK), rows)
    alone = stack.rings.to_images(stack.filtered[:20])
    exact = make_blobs(count=120, snr=1e6, ctf=False, seed=0)
    rings = stack.rings
    clean = centred_stack(exact.observed.rings(rings, np.arange(20)), torch.from_numpy(exact.shift_px[:20]).float())
    target = rings.to_images(clean.filtered)

    def likeness(images: torch.Tensor) -> float:
        return float(torch.cosine_similarity(images.flatten(1), target.flatten(1)).mean())

    assert likeness(averages) > likeness(alone) + 0.1
