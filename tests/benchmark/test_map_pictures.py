"""Pictures of maps: every structure and method has its tile and its line, and nothing is drawn where nothing was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from clarice.benchmark.map_pictures import TRUTH, ShownMap, draw_curves, draw_maps

METHODS = ("common-lines+unet", "RELION initial model")


def shown(seed: int, reach: int) -> ShownMap:
    volume = np.random.default_rng(seed).normal(size=(16, 16, 16)).astype(np.float32)
    return ShownMap.of(volume, (np.arange(9) < reach).astype(float), 4.0)


def structures() -> dict[str, dict[str, ShownMap]]:
    return {
        "1abc": {TRUTH: shown(0, 9), METHODS[0]: shown(1, 6), METHODS[1]: shown(2, 3)},
        "2xyz": {TRUTH: shown(3, 9), METHODS[0]: shown(4, 5)},  # one method failed
    }


def test_a_map_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    one = shown(1, 4)
    one.save(tmp_path / "maps" / "one.npz")
    again = ShownMap.load(tmp_path / "maps" / "one.npz")
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    volume = np.arange(5**3, dtype=np.float32).reshape(5, 5, 5)
    made = ShownMap.of(volume, np.ones(3), 1.0)
    np.testing.assert_array_equal(made.section, volume[2])
    np.testing.assert_array_equal(made.projection, volume.sum(axis=0))


def test_tiles_stand_in_rows_and_columns(tmp_path: Path) -> None:
    draw_maps(structures(), METHODS, tmp_path / "maps.png")
    picture = np.asarray(Image.open(tmp_path / "maps.png"))
    step = 132
    assert picture.shape == (34 + 4 * step, 96 + 3 * step)

    def tile(row: int, column: int) -> np.ndarray:
        return picture[34 + row * step :, 96 + column * step :][:128, :128]

    assert all(tile(row, column).std() > 10 for row in (0, 1) for column in (0, 1, 2))
    assert all(tile(row, 1).std() > 10 for row in (2, 3))
    assert all(tile(row, 2).min() == 255 for row in (2, 3))  # nothing was found there


def test_curves_are_told_apart_by_colour(tmp_path: Path) -> None:
    draw_curves(structures(), METHODS, tmp_path / "fsc.png")
    picture = np.asarray(Image.open(tmp_path / "fsc.png")).astype(int)
    assert picture.shape[1] == 600

    def count(colour: tuple[int, int, int], part: np.ndarray) -> int:
        return int((np.abs(part - np.array(colour)).max(axis=-1) < 40).sum())

    blue, vermilion = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    left, right = picture[:200, :300], picture[:200, 300:600]
    assert count(blue, left) > 100
    assert count(vermilion, left) > 100
    assert count(blue, right) > 100
    assert count(vermilion, right) == 0
    assert count(vermilion, picture[200:]) > 20  # the legend names both
