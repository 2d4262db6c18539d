"""Learning rate, reach of the average, and cadence."""

from __future__ import annotations

import math

import pytest

from clarice.training.schedule import (
    AVERAGED_SHARE,
    crossed,
    decay_start,
    learning_rate,
    least_images,
    newcomer_share,
)
from clarice.training.settings import TrainingSettings

SETTINGS = TrainingSettings(images=1000, learning_rate=0.2, warmup_images=100, decay_share=0.25)


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    rates = [learning_rate(images, 10, SETTINGS) for images in range(0, 1000, 10)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[9:76] == [0.2] * 67
    assert rates[76:] == pytest.approx([0.2 * (1000 - images) / 250 for images in range(760, 1000, 10)])
    assert learning_rate(1000, 10, SETTINGS) == 0


def test_a_cosine_falls_slower_at_first_and_is_halfway_at_half_the_decay() -> None:
    cosine = SETTINGS.model_copy(update={"decay": "cosine"})
    assert learning_rate(800, 10, cosine) > learning_rate(800, 10, SETTINGS)
    assert learning_rate(875, 10, cosine) == pytest.approx(0.1)


def test_a_longer_training_has_the_same_rates_before_the_decay() -> None:
    longer = SETTINGS.model_copy(update={"images": 4000})
    before = range(0, int(decay_start(SETTINGS)) + 1, 10)
    assert [learning_rate(i, 10, SETTINGS) for i in before] == [learning_rate(i, 10, longer) for i in before]


def test_without_an_end_the_rate_never_falls() -> None:
    endless = SETTINGS.model_copy(update={"images": None})
    assert decay_start(endless) == math.inf
    assert learning_rate(10**9, 10, endless) == 0.2


@pytest.mark.parametrize("share", [0.1, 0.25, 0.3, 0.7])
@pytest.mark.parametrize("seen", [1, 640, 420_000, 999_999])
def test_the_least_number_is_the_smallest_whose_rate_has_not_begun_to_fall(seen: int, share: float) -> None:
    settings = SETTINGS.model_copy(update={"decay_share": share})
    least = least_images(seen, settings)
    assert least is not None
    assert decay_start(settings.model_copy(update={"images": least})) >= seen
    assert decay_start(settings.model_copy(update={"images": least - 1})) < seen


def test_without_a_decay_what_was_seen_is_enough_and_with_nothing_else_no_number_is() -> None:
    assert least_images(640, SETTINGS.model_copy(update={"decay_share": 0.0})) == 640
    assert least_images(640, SETTINGS.model_copy(update={"decay_share": 1.0})) is None


def test_the_average_forgets_the_start_and_then_reaches_back_as_told() -> None:
    settings = TrainingSettings(average_images=5000)
    assert newcomer_share(0, 10, settings) == 1
    assert newcomer_share(1000, 10, settings) == pytest.approx(1 - math.exp(-10 / (AVERAGED_SHARE * 1000)))
    assert newcomer_share(10**6, 10, settings) == pytest.approx(1 - math.exp(-10 / 5000))
    assert newcomer_share(10**6, 10, TrainingSettings(average_images=0)) == 1


@pytest.mark.parametrize(("images", "due"), [(90, False), (96, False), (112, True), (128, False), (208, True)])
def test_what_is_due_every_so_many_images_comes_with_the_step_that_passes_them(images: int, due: bool) -> None:
    assert crossed(100, images, 16) is due
