"""Relative rotations by votes, their hands, and the rotations of all images that follow."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from tests.abinitio.lines import true_lines
from tests.geometry.blobs import seeded
from torch import Tensor

from clarice.abinitio.synchronize import spectral
from clarice.abinitio.voting import PairRotations, _agreements, handed, one_hand, vote, voted
from clarice.benchmark.synchronization import outlying_lines
from clarice.geometry.so3 import random_rotations
from clarice.metrics.orientation import orientation_errors

J = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


def relative(rotations: Tensor) -> Tensor:
    return rotations[:, None] @ rotations.transpose(1, 2)


def error_deg(method, rotations, lines) -> float:
    return float(orientation_errors(method(lines).rotations.numpy(), rotations).angle_deg.mean())


def test_votes_of_right_lines_give_every_pair_up_to_its_hand() -> None:
    rotations = torch.from_numpy(random_rotations(30, seeded(1)))
    found, true = vote(true_lines(rotations.numpy())), relative(rotations)
    one, other = ((found.rotations - each).norm(dim=(-2, -1)) for each in (true, J @ true @ J))
    off_diagonal = ~torch.eye(30, dtype=torch.bool)
    assert torch.minimum(one, other)[off_diagonal].max() < 1e-3
    torch.testing.assert_close(found.rotations, found.rotations.permute(1, 0, 3, 2))
    assert (found.weight.diagonal() == 0).all()
    assert found.weight[off_diagonal].min() > 0.9


def test_agreements_are_those_of_triplets_one_by_one() -> None:
    rotations = torch.from_numpy(random_rotations(7, seeded(2)))
    mirrored = (torch.rand((7, 7), generator=seeded(3)) < 0.5).triu(1)
    mirrored = mirrored | mirrored.T
    true = relative(rotations)
    pairs = PairRotations(torch.where(mirrored[..., None, None], J @ true @ J, true), torch.ones((7, 7)))
    found = _agreements(pairs, lambda *_: None)
    for i, j, k in permutations(range(7), 3):
        assert found[i, j, k] == (1 if mirrored[i, j] == mirrored[j, k] else -1)
    assert not any(found[i, i].any() or found[i, :, i].any() or found[:, i, i].any() for i in range(7))
    one = one_hand(pairs)
    errors = [(one.rotations - each).abs().max() for each in (true, J @ true @ J)]
    assert min(errors) < 1e-9


@pytest.mark.parametrize("method", [voted, handed])
def test_right_lines_give_the_rotations(method) -> None:
    rotations = random_rotations(60, seeded(4))
    found = method(true_lines(rotations))
    np.testing.assert_allclose(np.linalg.det(found.rotations.numpy()), 1, atol=1e-6)
    assert float(orientation_errors(found.rotations.numpy(), rotations).angle_deg.mean()) < 0.2
    assert float(found.residual_rad.max()) < 0.02


def test_hands_kept_apart_err_less_and_both_less_than_lines_alone() -> None:
    rotations, lines = outlying_lines(100, 0.4, 1)
    errors = [error_deg(method, rotations, lines) for method in (handed, voted, spectral)]
    assert errors == sorted(errors)
    assert errors[0] < 5
    assert errors[2] > 12


def test_under_three_images_are_refused() -> None:
    with pytest.raises(ValueError, match="three or more"):
        vote(true_lines(random_rotations(2, seeded(1))))
