"""How many iterations a refinement takes: more than asked for while there is more to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.abinitio.conftest import refinement_settings

from clarice.abinitio import refinement
from clarice.abinitio.half_sets import HalfSets
from clarice.abinitio.refinement import Iteration, State, refine
from clarice.geometry.polar import FourierRings
from clarice.physics.noisy_set import NoisySet


def test_refinement_goes_on_while_finer_rings_are_agreed_on(
    noisy: NoisySet, half_set: HalfSets, truth: np.ndarray
) -> None:
    settings = replace(refinement_settings(5.0, 1), further_iterations=2)
    history = refine(noisy, torch.from_numpy(truth), half_set, settings).history
    assert len(history) == 3
    radii = [row.radius_px for row in history]
    assert radii == sorted(radii)
    assert all(row.agreement_px >= row.radius_px for row in history[:-1])
    asked_for = replace(settings, further_iterations=0)
    assert len(refine(noisy, torch.from_numpy(truth), half_set, asked_for).history) == 1


@pytest.mark.parametrize(
    ("box", "before_px", "radius_px", "agreement_px", "goes_on"),
    [
        (32, 9.0, 9.0, 9.0, True),
        (32, 9.5, 9.5, 9.0, True),
        (32, 9.0, 9.0, 8.0, False),
        (32, 15.0, 15.0, 15.0, False),
        (32, 13.0, 15.0, 15.0, True),  # the first to see this ring
        (32, 13.0, 15.0, 14.0, False),
        (33, 14.0, 14.0, 14.0, True),
        (33, 15.0, 15.0, 15.0, False),
    ],
)
def test_it_ends_where_halves_disagree_or_no_ring_is_left(
    box: int, before_px: float, radius_px: float, agreement_px: float, goes_on: bool
) -> None:
    """The last ring of an odd box lies half a Fourier pixel further from its Nyquist frequency."""
    assert FourierRings.matching(box, box / 2 - 1, 20.0).radii[-1] == 15.0
    history = tuple(
        Iteration(radius, 3.0, True, agreement, 50.0, 0.8, 1.0)
        for radius, agreement in ((before_px, before_px), (radius_px, agreement_px))
    )
    nothing = torch.zeros(1)
    state = State(nothing, nothing, np.eye(3)[None], np.zeros((1, 2)), np.zeros(1), nothing, nothing, history)
    assert refinement._goes_on(state, box) is goes_on
