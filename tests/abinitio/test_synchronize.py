"""Rotations from lines: exact where lines are, and by the known table where many are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.abinitio.lines import right_ones, true_lines
from tests.geometry.blobs import seeded

from clarice.abinitio.common_lines import CommonLines
from clarice.abinitio.synchronize import consensus, least_deviations, spectral
from clarice.benchmark.synchronization import outlying_lines
from clarice.geometry.so3 import random_rotations
from clarice.metrics.orientation import orientation_errors

METHODS = (spectral, least_deviations, consensus)


def mean_error_deg(method, rotations, lines, weight=None) -> float:
    found = method(lines, weight).rotations.numpy()
    np.testing.assert_allclose(found @ np.swapaxes(found, 1, 2), np.broadcast_to(np.eye(3), found.shape), atol=1e-6)
    assert np.linalg.det(found).min() > 0.99
    return float(orientation_errors(found, rotations).angle_deg.mean())


@pytest.mark.parametrize("method", METHODS)
def test_right_lines_give_the_rotations(method) -> None:
    """The spectral way errs by what the sample of views differs from a uniform one."""
    rotations = random_rotations(100, seeded(1))
    allowed = 4.0 if method is spectral else 0.1
    assert mean_error_deg(method, rotations, true_lines(rotations)) < allowed


def test_three_images_are_enough_up_to_the_hand() -> None:
    rotations = random_rotations(3, seeded(7))
    found = consensus(true_lines(rotations))
    assert found.residual_rad.max() < 0.05


@pytest.mark.parametrize(("share", "expected"), [(0.5, 8.0), (0.3, 15.5), (0.2, 30.0)])
def test_spectral_error_follows_the_known_law(share: float, expected: float) -> None:
    """Singer and Shkolnisky: the error grows as 1 / (p √K); 9° at 30 % of 500 lines is 15° of 200."""
    rotations, lines = outlying_lines(200, share, 1)
    assert mean_error_deg(spectral, rotations, lines) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_wrong_lines_hardly_disturb_the_robust_ways(share: float) -> None:
    rotations, lines = outlying_lines(200, share, 2)
    deviations, agreed = (mean_error_deg(method, rotations, lines) for method in METHODS[1:])
    assert deviations < 0.5
    assert agreed < 0.2
    assert agreed <= deviations + 0.01


def test_consensus_holds_where_deviations_do_not() -> None:
    rotations, lines = outlying_lines(400, 0.12, 1)
    assert mean_error_deg(consensus, rotations, lines) < 8
    assert mean_error_deg(least_deviations, rotations, lines) > 30


def test_the_share_of_right_lines_and_which_they_are_is_told() -> None:
    rotations, lines = outlying_lines(150, 0.4, 3)
    found = consensus(lines)
    assert found.share == pytest.approx(0.4, abs=0.03)
    right = right_ones(lines, rotations)
    assert float(found.right[right].mean()) > 0.95
    assert float(found.right[~right].mean()) < 0.02
    assert torch.isnan(spectral(lines).right).all()


def test_an_image_that_fits_nowhere_stands_out() -> None:
    _, lines = outlying_lines(80, 0.6, 4)
    angle = lines.angle_rad.clone()
    angle[5] = 2 * torch.pi * torch.rand(80, generator=seeded(5))
    found = consensus(CommonLines(angle, lines.shift_px, lines.confidence))
    support = found.support()
    assert int(support.argmin()) == 5
    assert float(support[5]) < 0.2 < float(support.median())


def test_a_line_of_no_weight_is_not_listened_to() -> None:
    rotations, lines = outlying_lines(60, 0.2, 6)
    weight = right_ones(lines, rotations).float()
    for method in METHODS[1:]:
        assert mean_error_deg(method, rotations, lines, weight) < 0.3


def test_turning_an_image_turns_its_rotation_and_no_other() -> None:
    _, lines = outlying_lines(40, 0.7, 8)
    angle = lines.angle_rad.clone()
    angle[3] += 0.5
    turned = consensus(CommonLines(angle, lines.shift_px, lines.confidence)).rotations
    plain = consensus(lines).rotations
    expected = plain.clone()
    c, s = np.cos(0.5), np.sin(0.5)
    expected[3] = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ plain[3]
    errors = orientation_errors(turned.numpy(), expected.numpy())
    assert errors.angle_deg.max() < 0.05


def test_fewer_than_three_images_are_refused() -> None:
    with pytest.raises(ValueError, match="three or more"):
        spectral(CommonLines.none(2))
