"""Which slice of a structure an image is, and how like."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.abinitio.structures import population

from clarice.abinitio import likeness
from clarice.abinitio.likeness import Likeness
from clarice.abinitio.structure_space import structure_space
from clarice.geometry.harmonics import slice_series
from clarice.geometry.so3 import in_plane, sphere_grid, view_rotations

SPACE = structure_space()
RADII = tuple(float(radius) for radius in range(1, 10))


def test_the_nearest_slice_is_that_of_the_images_view_and_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images along views of the search itself, turned by its own angles."""
    monkeypatch.setattr(likeness, "_VIEWS", 50)
    spheres = SPACE.spheres(population()[0].double()).to(torch.complex128)
    views = view_rotations(sphere_grid(50))[[3, 17, 44]]
    turned = in_plane(np.array([0.0, 90.0, 360 * 11 / 64])) @ views
    images = slice_series(turned, SPACE.degree, SPACE.degree) @ spheres
    compared = Likeness(images, SPACE.degree, RADII)
    assert compared(spheres.real) == pytest.approx(1, abs=1e-9)
    assert torch.allclose(compared.nearest_slices(spheres.real) @ spheres, images, atol=1e-9)


def test_errors_of_images_are_as_large_as_they_are_said_to_be() -> None:
    images = torch.randn((400, 5, 9), dtype=torch.complex128) * torch.arange(1, 10)
    precision = Likeness(images, SPACE.degree, RADII).precision(0.5)
    assert precision.shape == (5, 9)
    assert torch.allclose(precision[0] * images.abs().square().mean(dim=0)[0], torch.full((9,), 4.0).double(), rtol=0.2)
    assert torch.allclose(precision[1:].mean(dim=0), 2 * precision[0], rtol=0.2)
