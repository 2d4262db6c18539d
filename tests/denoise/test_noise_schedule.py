"""How much signal is left: both schedules by their formulas, and what is drawn from them."""

from __future__ import annotations

import math

import pytest
import torch

from clarice.denoise.noise_schedule import NoiseSchedule


def test_the_linear_schedule_is_the_product_of_what_each_step_leaves() -> None:
    remaining = NoiseSchedule("linear", 2000).remaining()
    left = 1.0
    for step in range(2000):
        left *= 1 - (1e-6 + (1e-2 - 1e-6) * step / 1999)
    assert remaining[0] == 1
    assert remaining[-1] == pytest.approx(left, rel=1e-9)
    assert remaining[1] == pytest.approx(1 - 1e-6, rel=1e-9)


def test_a_schedule_of_fewer_steps_adds_as_much_noise() -> None:
    long, short = (NoiseSchedule("linear", steps).remaining()[-1].log() for steps in (2000, 500))
    assert float(short) == pytest.approx(float(long), rel=0.02)


def test_the_cosine_schedule_is_the_papers() -> None:
    remaining = NoiseSchedule("cosine", 100).remaining()

    def formula(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    for step in (1, 30, 99):
        assert remaining[step] == pytest.approx(formula(step / 100) / formula(0), rel=1e-9)
    assert 0 < remaining[100] < 1e-4  # the last step is capped


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_levels_to_train_at_spread_over_the_whole_schedule(kind: str) -> None:
    schedule = NoiseSchedule(kind, 50)  # type: ignore[arg-type]
    remaining = schedule.remaining()
    drawn = schedule.drawn(20000, generator=torch.Generator().manual_seed(1)).double()
    assert drawn.min() >= remaining[-1] * (1 - 1e-5)
    assert drawn.max() <= 1
    counts = torch.histogram(drawn.clamp(max=1), remaining.flip(0)).hist
    assert (counts / 400 - 1).abs().max() < 0.25  # each step is as likely as any other


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_a_path_goes_from_noise_to_image(steps: int) -> None:
    schedule = NoiseSchedule("linear", 50)
    path = schedule.path(steps)
    assert len(path) == steps + 1
    assert path[0] == schedule.remaining()[-1]
    assert path[-1] == 1
    assert (path.diff() > 0).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of linear, cosine"):
        NoiseSchedule("square")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has none"):
        NoiseSchedule("linear", 0)
    with pytest.raises(ValueError, match="between 1 and 50"):
        NoiseSchedule("linear", 50).path(51)
