"""View directions, their density and coverage, against what is known of even, polar and equatorial views."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from clarice.geometry.so3 import euler_to_matrix, matrix_to_euler, random_rotations, symmetry_rotations
from clarice.geometry.so3 import view_directions as directions_of_rotations
from clarice.metrics.view_coverage import coverage, share_from_everywhere, view_directions, with_copies
from clarice.report.sphere import density, orientation_map


@pytest.fixture
def even_views() -> np.ndarray:
    return directions_of_rotations(random_rotations(20_000, torch.Generator().manual_seed(1)))


def equatorial(count: int) -> np.ndarray:
    return view_directions(np.linspace(0, 360, count, endpoint=False), np.full(count, 90.0))


def test_directions_are_those_of_the_rotation_matrices() -> None:
    euler = matrix_to_euler(random_rotations(50, torch.Generator().manual_seed(2)))
    expected = directions_of_rotations(euler_to_matrix(euler))
    np.testing.assert_allclose(view_directions(euler[:, 0], euler[:, 1]), expected, atol=1e-12)


def test_even_views_cover_everything(even_views: np.ndarray) -> None:
    spread = coverage(even_views)
    assert spread.seen_share == 1
    assert spread.least_sampled > 0.85
    _, values = density(even_views)
    assert values.mean() == pytest.approx(1, rel=0.01)
    assert values.std() < 0.12


def test_views_along_one_axis_leave_that_direction_of_fourier_space_empty() -> None:
    spread = coverage(np.tile([[0.0, 0.0, 1.0]], (500, 1)))
    assert spread.least_sampled == 0
    # A cap of 7° at either pole.
    assert spread.seen_share == pytest.approx(1 - np.cos(np.deg2rad(7)), abs=0.002)


def test_equatorial_views_sample_fourier_space_without_a_gap() -> None:
    # Slices turned about one axis hold every direction; those across the axis are the most thinly sampled.
    spread = coverage(equatorial(720))
    assert 0.05 < spread.least_sampled < 1
    assert spread.seen_share == pytest.approx(np.sin(np.deg2rad(7)), abs=0.01)


@pytest.mark.parametrize(("symmetry", "order"), [("C1", 1), ("D7", 14), ("O", 24)])
def test_views_of_one_asymmetric_unit_cover_everything_with_their_copies(
    even_views: np.ndarray, symmetry: str, order: int
) -> None:
    group = symmetry_rotations(symmetry)
    heights = np.stack([even_views @ rotation @ [0.2, 0.3, 0.93] for rotation in group])
    unit = even_views[heights[0] >= heights.max(axis=0) - 1e-9]
    assert len(unit) < 1.3 * len(even_views) / order
    copies = with_copies(unit, symmetry)
    assert len(copies) == order * len(unit)
    assert coverage(copies).seen_share > 0.99
    assert coverage(copies).least_sampled > 0.6
    # A copy is what the same particle, turned by the group, is seen from.
    turned = euler_to_matrix(np.array([[30.0, 50.0, 70.0]]))[0]
    found = with_copies(turned[None, 2], symmetry)
    expected = np.stack([(turned @ rotation)[2] for rotation in group])
    np.testing.assert_allclose(found, expected)


def test_opposite_views_count_alike(even_views: np.ndarray) -> None:
    half = even_views[:300]
    assert coverage(half) == coverage(-half)


@pytest.mark.parametrize(("rot", "tilt"), [(0.0, 90.0), (90.0, 90.0), (-90.0, 90.0), (0.0, 45.0), (60.0, 130.0)])
def test_the_bright_spot_lies_where_the_views_point(rot: float, tilt: float) -> None:
    chart = orientation_map(view_directions(np.full(200, rot), np.full(200, tilt)))
    coded = re.search(r"base64,([^\"]+)", chart.svg)
    assert coded is not None
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(coded[1]))), dtype=float)
    bright = picture[..., :3].sum(-1) * (picture[..., 3] > 0)
    rows, columns = np.nonzero(bright > 0.97 * bright.max())
    y, x = 1 - 2 * rows.mean() / (picture.shape[0] - 1), 4 * columns.mean() / (picture.shape[1] - 1) - 2
    # Mollweide, inverted: latitude from y, longitude from x.
    theta = np.arcsin(y)
    latitude = np.rad2deg(np.arcsin((2 * theta + np.sin(2 * theta)) / np.pi))
    longitude = np.rad2deg(np.pi * x / (2 * np.cos(theta)))
    assert 90 - latitude == pytest.approx(tilt, abs=4)
    assert longitude == pytest.approx(rot, abs=5)


def test_views_from_everywhere_see_the_share_foretold() -> None:
    generator = np.random.default_rng(4)
    for count in (50, 200):
        drawn = generator.normal(size=(20, count, 3))
        seen = [coverage(each / np.linalg.norm(each, axis=1, keepdims=True)).seen_share for each in drawn]
        assert np.mean(seen) == pytest.approx(share_from_everywhere(count), abs=0.02)
    assert not coverage(drawn[0] / np.linalg.norm(drawn[0], axis=1, keepdims=True)).is_preferred(200)
    assert coverage(np.tile([[0.0, 0.0, 1.0]], (200, 1))).is_preferred(200)
