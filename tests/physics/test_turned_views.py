"""Sets of turned views: as many views as asked, turned by the angle that is stated, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clarice.geometry.so3 import in_plane
from clarice.physics.turned_views import TurnedViews, turned_views


def made(views: int, count: int = 200, seed: int = 3) -> TurnedViews:
    return turned_views(count, views, 2.5, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("views", [1, 8])
def test_images_of_a_view_differ_by_their_stated_angle(views: int) -> None:
    shown = made(views)
    assert set(shown.view) == set(range(views))
    unturned = in_plane(-np.rad2deg(shown.angle_rad)) @ shown.poses.rotations
    for view in range(views):
        of_view = unturned[shown.view == view]
        assert np.allclose(of_view, of_view[0], atol=1e-12)


def test_without_views_each_image_has_its_own() -> None:
    shown = made(0)
    assert np.array_equal(shown.view, np.arange(200))
    directions = shown.poses.rotations[:, 2]
    assert np.linalg.norm(directions.mean(axis=0)) < 0.2
    assert len(np.unique(directions.round(6), axis=0)) == 200


def test_shifts_fill_their_range_and_draws_repeat() -> None:
    shown, again = made(4), made(4)
    assert np.abs(shown.poses.shifts_px).max() <= 2.5
    assert np.abs(shown.poses.shifts_px).max() > 2.3
    assert np.array_equal(shown.poses.rotations, again.poses.rotations)
    assert not np.array_equal(made(4, seed=4).view, shown.view)
