"""Classes of known shapes are found, with their angles and shifts; settings that cannot work are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.classify.blobs import Blobs, make_blobs

from clarice.classify.align import align_to_classes
from clarice.core.errors import UsageError
from clarice.core.particles import ArraySource
from clarice.metrics.clusters import purity
from clarice.physics.noisy_set import NoisySet, white_set


@pytest.fixture(scope="module")
def blobs() -> Blobs:
    return make_blobs()


def _with(blobs: Blobs, images: NDArray[np.float32]) -> NoisySet:
    return white_set(replace(blobs.observed.particles, images=ArraySource(images)))


def circular_spread_deg(angles_rad: np.ndarray) -> float:
    """Median deviation from the circular mean."""
    mean = np.angle(np.exp(1j * angles_rad).mean())
    return float(np.rad2deg(np.median(np.abs(np.angle(np.exp(1j * (angles_rad - mean)))))))


@pytest.mark.parametrize("box", [32, 33])
def test_shapes_angles_and_shifts_are_recovered(box: int) -> None:
    blobs = make_blobs(box=box)
    found = align_to_classes(blobs.observed, 6, iterations=12, seed=1).assignment
    index = found.class_index.numpy()
    assert purity(index, blobs.shape) > 0.95
    for number in range(6):
        rows = np.flatnonzero((index == number) & (found.probability.numpy() > 0.5))
        if len(rows) < 10:
            continue
        # The class's own angle and centre are free; against them every member agrees with the truth.
        assert circular_spread_deg(found.angle_rad.numpy()[rows] - blobs.angle_rad[rows]) < 6
        extra = found.shift_px.numpy()[rows] - blobs.shift_px[rows]
        angle = -found.angle_rad.numpy()[rows]
        x = np.cos(angle) * extra[:, 0] - np.sin(angle) * extra[:, 1]
        y = np.sin(angle) * extra[:, 0] + np.cos(angle) * extra[:, 1]
        assert np.median(np.hypot(x - np.median(x), y - np.median(y))) < 0.6
        assert np.hypot(np.median(x), np.median(y)) < 2.0


def test_few_classes_die_and_noise_does_not_feed_them(blobs: Blobs) -> None:
    found = align_to_classes(blobs.observed, 8, iterations=12, seed=2).assignment
    population = np.bincount(found.class_index.numpy(), minlength=8)
    assert (population >= 5).sum() >= 7


def test_likelihood_rises_within_a_stage(blobs: Blobs) -> None:
    gains = align_to_classes(blobs.observed, 4, iterations=12, seed=1).log_likelihood
    assert len(gains) == 12
    assert gains[5] > gains[0]
    assert gains[11] > gains[6]


def test_same_seed_same_classes(blobs: Blobs) -> None:
    first = align_to_classes(blobs.observed, 4, iterations=4, seed=3).assignment
    again = align_to_classes(blobs.observed, 4, iterations=4, seed=3).assignment
    other = align_to_classes(blobs.observed, 4, iterations=4, seed=4).assignment
    assert torch.equal(first.class_index, again.class_index)
    assert torch.equal(first.shift_px, again.shift_px)
    assert not torch.equal(first.class_index, other.class_index)


def test_pure_noise_fits_nothing() -> None:
    signal = make_blobs(count=200)
    images = signal.observed.particles.read()
    images[100:] = np.random.default_rng(9).standard_normal(images[100:].shape)
    found = align_to_classes(_with(signal, images), 5, iterations=9).assignment
    assert found.fit[:100].median() > 4 * found.fit[100:].median()


def test_hands_are_never_mixed() -> None:
    blobs = make_blobs(count=200, n_shapes=1, snr=0.5, ctf=False)
    images = blobs.observed.particles.read()
    images[::2] = np.roll(images[::2, :, ::-1], 1, axis=2)
    mirrored = np.arange(200) % 2
    found = align_to_classes(_with(blobs, images), 4, iterations=9).assignment
    assert purity(found.class_index.numpy(), mirrored) > 0.95


@pytest.mark.parametrize(
    ("settings", "error", "named"),
    [
        ({"n_classes": 0}, UsageError, "--classes 0"),
        ({"n_classes": 241}, UsageError, "240 particles cannot make 241"),
        ({"n_classes": 4, "iterations": 2}, UsageError, "--iterations 2"),
        ({"n_classes": 4, "diameter_px": 40.0}, UsageError, "mask diameter of 40 px"),
    ],
)
def test_unfit_settings_are_refused(blobs: Blobs, settings: dict, error: type, named: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(error, match=named):
        align_to_classes(blobs.observed, **settings)
