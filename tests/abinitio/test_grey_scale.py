"""A map of wrong grey values is brought to the particles' own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.abinitio.conftest import DIAMETER_PX, noise_only

from clarice.abinitio.grey_scale import matched_scale
from clarice.physics.noisy_set import NoisySet
from clarice.physics.simulate import SimulatedSet


def factor_of(found: torch.Tensor, volume: np.ndarray) -> float:
    """The factor between two maps, which must be one and the same everywhere."""
    reference = torch.from_numpy(volume)
    factor = float((found * reference).sum() / reference.square().sum())
    torch.testing.assert_close(found, factor * reference, rtol=1e-4, atol=1e-6)
    return factor


@pytest.mark.parametrize("wrong", [1.0, 0.01, 250.0])
def test_a_wrong_factor_is_found(noisy: NoisySet, truth: np.ndarray, wrong: float) -> None:
    found = matched_scale(noisy, torch.from_numpy(wrong * truth), DIAMETER_PX)
    assert factor_of(found, truth) == pytest.approx(1.0, abs=0.06)


def test_a_filter_that_the_noise_never_passed_is_divided_out(noisy: NoisySet, truth: np.ndarray) -> None:
    """Images said to hold the signal times W = 2, and the same noise, show a map half as bright."""
    plain = factor_of(matched_scale(noisy, torch.from_numpy(truth), DIAMETER_PX), truth)
    filtered = replace(noisy, whitening=np.full_like(noisy.whitening, 2.0))
    found = factor_of(matched_scale(filtered, torch.from_numpy(truth), DIAMETER_PX), truth)
    assert found == pytest.approx(plain / 2, rel=0.02)


def test_particles_of_pure_noise_leave_next_to_nothing(simulated: SimulatedSet, truth: np.ndarray) -> None:
    found = matched_scale(noise_only(simulated, seed=1), torch.from_numpy(truth), DIAMETER_PX)
    assert factor_of(found, truth) < 0.1
