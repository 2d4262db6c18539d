"""Orthogonal-matrix retrieval: what it keeps to, what it finds, and how starts are told apart."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from clarice.abinitio.kam import Autocorrelations, autocorrelations_of
from clarice.abinitio.likeness import Likeness
from clarice.abinitio.orthogonal_retrieval import RetrievalSettings, _Known, retrieve
from clarice.geometry.harmonics import BallBasis, degrees_of, slice_series
from clarice.geometry.so3 import random_rotations
from clarice.metrics.registration import register
from clarice.metrics.shells import fsc, resolution_at

BOX, RADII = 24, (1.0, 2.0, 3.0, 4.0)
BALL = BallBasis(BOX, 9.0, RADII[-1])
FEW = RetrievalSettings(starts=3, iterations=30, last_iterations=10)


@lru_cache(maxsize=1)
def volume() -> Tensor:
    """Four blobs of different weight, none of them in one plane."""
    axis = torch.arange(BOX) - BOX // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    blobs = ((3.5, 0.5, 1.0, 1.0), (-2.0, 3.5, -1.5, 0.8), (-1.5, -3.0, 2.5, 0.6), (0.0, 0.5, -3.5, 0.7))
    return sum(  # type: ignore[return-value]
        w * torch.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * 2.2**2)) for a, b, c, w in blobs
    )


@lru_cache(maxsize=1)
def spheres() -> Tensor:
    return BALL.on_spheres(BALL.of_volume(volume()), BALL.transforms(RADII))


def correlations() -> Autocorrelations:
    values = autocorrelations_of(spheres())
    return Autocorrelations(values, torch.zeros_like(values))


def images(count: int, seed: int) -> Tensor:
    rotations = random_rotations(count, torch.Generator().manual_seed(seed))
    return slice_series(rotations, BALL.degree, BALL.degree) @ spheres().to(torch.complex128)


def seen_along_z() -> Tensor:
    return slice_series(np.eye(3)[None], BALL.degree, BALL.degree)[0] @ spheres().to(torch.complex128)


def test_both_projections_leave_what_keeps_to_them() -> None:
    known = _Known(correlations(), BALL, RADII, seen_along_z())
    kept = known.with_correlations(spheres())
    assert torch.allclose(kept, spheres(), atol=1e-6 * float(spheres().abs().max()))
    possible = known.possible(spheres())  # the blobs are hardly negative anywhere
    assert float((possible - spheres()).norm() / spheres().norm()) < 0.03


def test_projections_lead_to_what_they_say() -> None:
    known = _Known(correlations(), BALL, RADII, seen_along_z())
    start = torch.randn(known.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    measured = known.with_correlations(start)
    for found, wanted in zip(autocorrelations_of(measured), correlations().values, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6 * float(correlations().values.abs().max()))
    # No other structure with these correlations is nearer: turning a degree about leads away.
    turned = torch.cat([part.flip(0) for part in degrees_of(measured, 0)])
    assert float((turned - start).norm()) > float((measured - start).norm())
    possible = known.possible(start)
    slice_of = slice_series(np.eye(3)[None], BALL.degree, BALL.degree)[0] @ possible.to(torch.complex128)
    assert torch.allclose(slice_of, seen_along_z(), atol=1e-6 * float(seen_along_z().abs().max()))


def test_a_structure_is_found_from_its_correlations_and_one_image() -> None:
    settings = RetrievalSettings(starts=6, iterations=150, last_iterations=50)
    found = retrieve(correlations(), BALL, RADII, settings, reference=seen_along_z(), further=images(10, seed=4))
    assert found.score is not None
    assert found.chosen == int(np.argmax(found.score))
    truth = BALL.to_volume(BALL.of_volume(volume())).numpy()
    laid = register(found.volume.numpy(), truth).volume
    assert resolution_at(fsc(laid, truth), 0.5, 1.0, BOX) < 8


def test_the_same_seed_finds_the_same_and_residuals_choose_without_images() -> None:
    one, two = (retrieve(correlations(), BALL, RADII, FEW, reference=seen_along_z()) for _ in range(2))
    assert torch.equal(one.spheres, two.spheres)
    assert one.score is None
    assert one.chosen == int(np.argmin(one.residual))
    other = retrieve(correlations(), BALL, RADII, RetrievalSettings(3, 30, 10, seed=1), reference=seen_along_z())
    assert not torch.equal(one.spheres, other.spheres)


def test_a_structure_is_most_like_its_own_images() -> None:
    like = Likeness(images(8, seed=5), BALL.degree, RADII)
    own = like(spheres())
    assert own > 0.97
    other = torch.cat([part.flip(0) for part in degrees_of(spheres(), 0)])
    assert like(other) < own - 0.005
    assert Likeness(3 * images(8, seed=5), BALL.degree, RADII)(2 * spheres()) == pytest.approx(own)


def test_degrees_of_which_nothing_was_measured_stay_empty() -> None:
    few = Autocorrelations(correlations().values[:3], correlations().errors[:3])
    found = retrieve(few, BALL, RADII, RetrievalSettings(1, 3, 1))
    assert not torch.cat(degrees_of(found.spheres, 0)[3:]).any()
