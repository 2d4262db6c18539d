"""What lies beside a particle: where it may lie, how strong it is, and that it is drawn anew for each image."""

from __future__ import annotations

import pytest
import torch

from clarice.physics.contaminants import (
    CRYSTAL_CONTRAST,
    FARTHEST_NEIGHBOUR,
    GRAIN,
    NEAREST_NEIGHBOUR,
    carbon_film,
    contrast_of,
    draw_neighbours,
    ice_crystals,
    paste,
)
from clarice.physics.detector_faults import HOT_PIXEL_MEAN, hot_pixels, streaks, thickness_gradient


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_neighbours_are_so_many_and_keep_their_distance() -> None:
    beside, offsets = draw_neighbours(4000, 64, 1.5, generator())
    assert len(beside) / 4000 == pytest.approx(1.5, rel=0.05)
    assert torch.equal(beside, beside.sort().values)
    distance = offsets.float().norm(dim=1) / 64
    assert distance.min() > NEAREST_NEIGHBOUR - 0.02
    assert distance.max() < FARTHEST_NEIGHBOUR + 0.02
    # Evenly over the ring: the mean square of the radius is the middle of its range.
    middle = (NEAREST_NEIGHBOUR**2 + FARTHEST_NEIGHBOUR**2) / 2
    assert float(distance.square().mean()) == pytest.approx(middle, rel=0.02)
    assert offsets.float().mean(dim=0).abs().max() < 2


@pytest.mark.parametrize("offset", [(3, -2), (-5, 4), (0, 0), (15, 0), (-40, 40)])
def test_pasting_is_a_shift_without_a_way_around(offset: tuple[int, int]) -> None:
    image = torch.randn((1, 16, 16), generator=generator())
    field = torch.zeros((3, 16, 16))
    paste(field, image, torch.tensor([1]), torch.tensor([offset]))
    expected = torch.zeros((16, 16))
    for y in range(16):
        for x in range(16):
            if 0 <= y - offset[1] < 16 and 0 <= x - offset[0] < 16:
                expected[y, x] = image[0, y - offset[1], x - offset[0]]
    assert torch.equal(field[1], expected)
    assert not field[[0, 2]].any()


def test_contrast_is_that_of_the_middle() -> None:
    image = torch.zeros((2, 64, 64))
    image[0, 28:37, 28:37] = 2
    image[1, :4] = 5  # outside of the disk
    assert contrast_of(image, 32)[0] > 0.5
    assert contrast_of(image, 32)[1] == 0


def test_a_film_covers_one_side_of_an_edge_and_has_a_grain() -> None:
    film = carbon_film(400, 64, generator())
    middle = film[:, 16:48, 16:48]
    blocks = middle.unfold(1, 8, 8).unfold(2, 8, 8).reshape(400, -1, 64)
    covered = blocks.mean(dim=2) > 0.5
    assert 0.4 < float(covered.float().mean()) < 0.6
    crossed = covered.any(dim=1) & ~covered.all(dim=1)
    assert 0.4 < float(crossed.float().mean()) < 0.9
    whole = covered.all(dim=1)
    assert whole.any()
    assert float(middle[whole].std()) == pytest.approx(GRAIN, abs=0.03)
    assert float(middle[whole].mean()) == pytest.approx(1, abs=0.03)
    free = ~covered.any(dim=1)
    assert float(middle[free].abs().mean()) < 0.1


def test_crystals_are_compact_and_carry_fringes_only_where_pixels_are_fine_enough() -> None:
    coarse, fine = (ice_crystals(200, 128, pixel, generator()) for pixel in (4.0, 1.0))
    inside = coarse > 0.9 * CRYSTAL_CONTRAST
    assert 0.005 < float(inside.float().mean()) < 0.1
    flat = coarse[inside & (coarse < 1.01 * CRYSTAL_CONTRAST)]
    assert float(flat.std()) < 0.1
    assert float(fine[inside].std()) > 0.5
    assert (coarse.flatten(1).amax(dim=1) > 0).float().mean() > 0.8


def test_a_gradient_has_no_mean_and_the_stated_slope() -> None:
    ramp = thickness_gradient(2000, 32, generator())
    assert ramp.mean(dim=(-2, -1)).abs().max() < 1e-5
    slope = ramp[:, 16, 31] - ramp[:, 16, 1]
    assert float(slope.std()) == pytest.approx(2, rel=0.1)


def test_streaks_run_along_whole_rows_and_columns() -> None:
    image = streaks(300, 32, generator())
    lines = (image[:, :, :1] != image[:, :, 1:]).any(dim=(1, 2)) | (image[:, :1] != image[:, 1:]).any(dim=(1, 2))
    assert 0.4 < float(lines.float().mean()) < 0.95
    # A row's offset and a column's: what is left without both is nothing.
    double = image - image[:, :1] - image[:, :, :1] + image[:, :1, :1]
    assert double.abs().max() < 1e-5


def test_hot_pixels_are_so_many_and_so_hot() -> None:
    image = hot_pixels(2000, 32, 3.0, generator())
    assert float((image > 0).sum()) / 2000 == pytest.approx(3, rel=0.05)
    assert float(image[image > 0].mean()) == pytest.approx(HOT_PIXEL_MEAN, rel=0.05)
