"""Particles sorted by map: each map is held against its own particles with random phases."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from clarice.abinitio import projection_matching
from clarice.core.particles import ArraySource
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline.first_map_settings import FirstMapSettings, Method
from clarice.pipeline.sorted_maps import SortedMaps, sort_by_map

BOX, COUNT = 24, 120


def sorted_onto(particles: NoisySet, volumes: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> SortedMaps:
    """Particles of which the first 60 show the first map, and the last ten at most the third."""
    label = np.repeat([0, 1, 2], [60, COUNT - 70, 10])[: len(particles)]
    found = SimpleNamespace(
        volumes=volumes,
        memberships=torch.eye(3, dtype=torch.float64)[torch.from_numpy(label)],
        radius_px=6.0,
        doubt=None,
        record=dict,
    )

    def given(*_: Any) -> SimpleNamespace:
        return found

    monkeypatch.setattr(projection_matching, "initial_map", given)
    settings = FirstMapSettings(16.0, Method.PROJECTION_MATCHING, classes=3, max_shift_px=0.0)
    return sort_by_map(particles, settings)


def test_a_map_that_particles_fit_by_their_spectra_alone_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimulationSettings(COUNT, BOX, seed=3, snr=1.0, max_shift_px=0.0)
    simulated = simulate(make_molecule(3, mass_kda=60), settings)
    images = simulated.particles.read().copy()
    images[60:] = np.random.default_rng(1).normal(size=images[60:].shape)
    particles = white_set(replace(simulated.particles, images=ArraySource(images)))
    truth = torch.from_numpy(np.asarray(simulated.volume, dtype=np.float32))
    result = sorted_onto(particles, [truth, truth, truth], monkeypatch)
    shown, noise, few = result.record["random_phases"]
    assert shown["gain"] > max(0, 2 * shown["randomised"])
    assert noise["gain"] < shown["randomised"]
    assert few is None
    assert result.warning is not None
    assert result.warning.startswith("map 2: with their phases made random")
    assert "map 1" not in result.warning
