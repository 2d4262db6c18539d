"""The viewer's copy of a map, against balls of known place and size."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from clarice.report.folder import Volume
from clarice.report.surface import VIEWER_EDGE, central_slices, projections, starting_level, surface


def ball(box: int, radius: float, centre: tuple[float, float, float] = (0, 0, 0), noise: float = 0.02) -> np.ndarray:
    """A soft ball, `centre` (z, y, x) from the middle, in noise."""
    z, y, x = np.mgrid[:box, :box, :box] - box // 2
    inside = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2
    values = gaussian_filter(inside.astype(np.float32), 1.0)
    return (values + np.random.default_rng(5).normal(0, noise, values.shape)).astype(np.float32)


@pytest.mark.parametrize(("box", "radius"), [(48, 12.0), (49, 9.0), (96, 34.0)])
def test_the_viewer_shows_the_ball_at_its_size(box: int, radius: float) -> None:
    drawn = surface(Volume(ball(box, radius), 2.5))
    assert drawn is not None
    settings = drawn.settings
    edge = settings["edge"]
    values = np.frombuffer(base64.b64decode(drawn.values_base64), dtype=np.uint8)
    assert values.size == edge**3
    assert edge <= VIEWER_EDGE
    assert settings["least"] < settings["level"] < settings["most"] <= settings["high"]
    shown = settings["low"] + values / 255 * (settings["high"] - settings["low"])
    enclosed = np.count_nonzero(shown >= 0.5) * settings["voxel_angstrom"] ** 3
    assert enclosed == pytest.approx(4 / 3 * np.pi * (2.5 * radius) ** 3, rel=0.06)
    assert drawn.diameter_angstrom == pytest.approx(2 * 2.5 * radius, rel=0.12)


def test_the_first_threshold_parts_ball_from_noise() -> None:
    assert 0.25 < starting_level(ball(48, 12.0)) < 0.75


def test_parts_that_lie_apart_are_all_shown_and_specks_are_not() -> None:
    values = ball(64, 6.0, (-14, 0, 0), 0) + ball(64, 6.0, (14, 0, 0), 0)
    values[2, 2, 2] = 1.0
    drawn = surface(Volume(values, 1.0))
    assert drawn is not None
    assert drawn.diameter_angstrom == pytest.approx(40, abs=3)
    assert drawn.settings["edge"] * drawn.settings["voxel_angstrom"] < 60


@pytest.mark.parametrize("values", [np.zeros((8, 8, 8)), np.full((8, 8, 8), -1.0), np.ones((8, 8, 8))])
def test_a_flat_map_has_no_surface(values: np.ndarray) -> None:
    assert surface(Volume(values.astype(np.float32), 1.0)) is None


def test_one_bright_voxel_is_no_trouble() -> None:
    values = np.zeros((16, 16, 16), dtype=np.float32)
    values[0, 15, 3] = 1
    drawn = surface(Volume(values, 1.0))
    assert drawn is not None
    assert drawn.settings["least"] < drawn.settings["most"]


@pytest.mark.parametrize("box", [16, 17])
def test_slices_and_projections_name_their_axes(box: int) -> None:
    import io

    from PIL import Image

    values = np.zeros((box, box, box), dtype=np.float32)
    middle = box // 2
    values[middle, middle, middle + 4] = 1.0  # on the x axis, at +4
    for planes in (central_slices(Volume(values, 1.0)), projections(Volume(values, 1.0))):
        for plane in planes:
            data = base64.b64decode(plane.picture.split(",")[1])
            picture = np.asarray(Image.open(io.BytesIO(data)))
            bright = np.argwhere(picture == picture.max())
            up, across = box - 1 - bright[0][0] - middle, bright[0][1] - middle
            if plane.axis == "x" and picture.max() == 0:
                continue
            assert (across, up) == tuple(4 if name == "x" else 0 for name in (plane.across, plane.up))
