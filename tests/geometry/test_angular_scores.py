"""Scores over all angles, for posteriors that are summed up: against plain sums, in float32 and bfloat16."""

from __future__ import annotations

import threading

import pytest
import torch
from tests.geometry.blobs import relative_error, seeded
from tests.geometry.test_angular import BF16_TOLERANCE, plain_average_onto, plain_correlate, signals
from torch import Tensor

from clarice.geometry import angular
from clarice.geometry.angular_scores import Factors, FoldedScores, RoundedScores


def scores_of(a: Tensor, b: Tensor, dtype: torch.dtype) -> FoldedScores | RoundedScores:
    return Factors.of(angular.to_spectrum(b, dtype), b.shape[-1]).scores(angular.to_spectrum(a, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t", [8, 16, 17])
def test_scores_take_any_offset(t: int, dtype: torch.dtype) -> None:
    a, b = signals(4, 3, t, 0), signals(5, 3, t, 1)
    scores = scores_of(a, b, dtype)
    expected = plain_correlate(a, b)[scores.angles]
    assert sorted(scores.angles.tolist()) == list(range(t))
    tolerance = 1e-5 if dtype == torch.float32 else BF16_TOLERANCE
    assert relative_error(scores.highest(), expected.amax(dim=0)) < tolerance
    for seed in (2, 3):  # a second offset replaces the first
        offset = torch.randn((4, 5), generator=seeded(seed))
        found = scores.plus(offset)
        assert found.dtype == dtype
        assert relative_error(found.float(), expected + offset) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t", [8, 9])
def test_weights_sum_signals_up_onto_the_references(t: int, dtype: torch.dtype) -> None:
    a, b = signals(4, 3, t, 0), signals(5, 3, t, 1)
    scores = scores_of(a, b, dtype)
    weights = scores.plus(torch.zeros(4, 5)).exp_()
    in_order = torch.empty_like(weights)
    in_order[scores.angles] = weights
    tolerance = 1e-5 if dtype == torch.float32 else BF16_TOLERANCE
    mass = scores.mass(weights)
    assert relative_error(mass.total, in_order.float().sum(dim=0)) < tolerance
    onto = angular.from_spectrum(mass.onto(angular.to_spectrum(a, dtype)), t)
    assert relative_error(onto, plain_average_onto(in_order.float(), a)) < tolerance


def test_threads_do_not_write_over_one_another() -> None:
    a, b = signals(4, 3, 8, 0), signals(5, 3, 8, 1)
    scores = scores_of(a, b, torch.float32)
    before = scores.scores.clone()
    other = threading.Thread(target=scores_of, args=(2 * a, b, torch.float32))
    other.start()
    other.join()
    assert torch.equal(scores.scores, before)
    scores_of(2 * a, b, torch.float32)
    assert torch.equal(scores.scores, 2 * before)  # in one thread the memory is the same: less time than new pages


def test_bfloat16_offsets_keep_small_differences() -> None:
    """A score of 1000 less 999.63: adding in bfloat16, whose steps there are 4, would give 0 or 4."""
    a, b = torch.full((1, 1, 1), 25.0), torch.full((1, 1, 1), 40.0)
    scores = scores_of(a, b, torch.bfloat16)
    for offset in (-999.63, -1000.02, -993.9):
        found = scores.plus(torch.tensor([[offset]])).item()
        assert found == pytest.approx(1000 + offset, rel=2**-8, abs=2**-16 * 1000)


def test_bfloat16_offset_columns_alone() -> None:
    """With zero signals the scores are the offset, to the last bit of bfloat16, anywhere from 1e-3 to 1e4."""
    zeros = angular.to_spectrum(torch.zeros(1, 2, 8), torch.bfloat16)
    offsets = torch.logspace(-3, 4, 50)[:, None] * torch.tensor([1.0, -1.0])
    references = Factors.of(zeros.expand(-1, 2, -1).contiguous(), 8)
    found = references.scores(zeros.expand(-1, 50, -1).contiguous()).plus(offsets)
    torch.testing.assert_close(found.float(), offsets.expand(8, -1, -1), rtol=2**-8, atol=0)
