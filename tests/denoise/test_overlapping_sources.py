"""Particles whose boxes overlap on their micrograph share noise: a joint network never takes one from the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tests.training.finetuning_sets import BOX, noise, trained

from clarice.core.particles import ArraySource, ParticleSet
from clarice.denoise.learned import _Transformer, denoise_jointly
from clarice.denoise.notes import Notebook
from clarice.denoise.trained import TrainedNetwork
from clarice.physics.noisy_set import NoisySet, white_set

__all__ = ["trained"]  # a fixture


def on_a_row(particles: ParticleSet, spacing_px: float) -> NoisySet:
    """Particles one beside the other on one micrograph."""
    count = len(particles)
    x = spacing_px * particles.pixel_size_angstrom * np.arange(count)
    centre = np.stack([x, np.zeros(count)], axis=1)
    return white_set(replace(particles, micrograph=np.full(count, "one.mrc"), centre_angstrom=centre))


def with_another_last(particles: ParticleSet) -> ParticleSet:
    images = particles.read().copy()
    images[-1] = np.random.default_rng(9).normal(size=(BOX, BOX))
    return replace(particles, images=ArraySource(images))


def test_none_of_them_is_named_among_the_sources(trained: TrainedNetwork) -> None:
    notes = Notebook(40, sources_wanted=39)
    list(denoise_jointly(on_a_row(noise(40).particles, BOX / 2.4), trained, notes=notes))  # two on either side overlap
    for row, sources in enumerate(notes.found.row):
        assert sorted(sources[sources >= 0]) == [other for other in range(40) if abs(other - row) > 2]
    assert np.allclose(notes.found.weight.sum(axis=1) + notes.found.kept, 1, atol=1e-3)


def test_a_particle_is_the_same_whatever_overlaps_it(trained: TrainedNetwork) -> None:
    pair = noise(2).particles
    for spacing_px, alone in ((BOX - 1, True), (BOX, False)):
        images = [
            next(iter(denoise_jointly(on_a_row(particles, spacing_px), trained)))[1][0]
            for particles in (pair, with_another_last(pair))
        ]
        assert np.array_equal(*images) == alone


def test_so_are_the_features_by_which_look_alikes_are_found(trained: TrainedNetwork) -> None:
    four = noise(4).particles
    for spacing_px, alone in ((BOX / 4, True), (BOX, False)):
        first, second = (
            _Transformer(trained).features(on_a_row(particles, spacing_px), np.arange(4))
            for particles in (four, with_another_last(four))
        )
        assert torch.equal(first[:3], second[:3]) == alone
