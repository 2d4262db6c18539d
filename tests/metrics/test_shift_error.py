"""Errors of shifts: the structure's own place is taken out, whatever some particles say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.core.particles import Poses
from clarice.geometry.so3 import random_rotations
from clarice.metrics.shift_error import shift_errors


def test_errors_are_what_is_left_of_a_structure_moved_in_its_box() -> None:
    generator = np.random.default_rng(1)
    rotations = random_rotations(200, torch.Generator().manual_seed(1))
    true = Poses(rotations, generator.uniform(-3, 3, size=(200, 2)))
    error = generator.normal(size=(200, 2)) * 0.2
    error[:30] += 5 * generator.normal(size=(30, 2))
    move = np.array([1.5, -2.0, 0.7])
    found = Poses(rotations, true.shifts_px + (rotations @ move)[:, :2] + error)
    expected = np.linalg.norm(error, axis=1)
    assert np.abs(shift_errors(found, true) - expected).max() < 0.1
    assert np.allclose(shift_errors(true, true), 0)
    exact = Poses(rotations, true.shifts_px + (rotations @ move)[:, :2])
    assert shift_errors(exact, true).max() < 1e-9
    with pytest.raises(ValueError, match="cannot be compared"):
        shift_errors(found, Poses(rotations[:3], true.shifts_px[:3]))
