"""Averages are turned back on to their particles without loss; the oracle is what averaging can reach at best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.benchmark.denoise_sets import made

from clarice.benchmark.denoise_classes import (
    central_part,
    class_averaging,
    class_count,
    first_ring,
    on_zero_background,
    oracle_then,
    turned_back,
)
from clarice.benchmark.denoise_sets import ImageSet
from clarice.core.errors import UsageError
from clarice.geometry.polar import FourierRings
from clarice.metrics.image import relative_mse


def gaussian_blob(box: int, centre: tuple[float, float], width: float = 3.0) -> torch.Tensor:
    y, x = torch.meshgrid(*(torch.arange(box, dtype=torch.float64) - box // 2,) * 2, indexing="ij")
    return torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * width**2))[None]


@pytest.mark.parametrize("box", [32, 33])
def test_rings_and_the_central_part_make_the_image(box: int) -> None:
    """All but what little of an image off the centre the sum formula's three terms miss."""
    image = gaussian_blob(box, (1.0, -2.0)).float()
    rings = FourierRings.up_to(box, (box - 1) // 2, box)
    sampled = rings.sample(image)
    without = rings.to_images(sampled)
    whole = without + central_part(image.mean(dim=(-2, -1)), first_ring(sampled, box), box)
    assert relative_mse(whole, image) < 2e-3
    assert relative_mse(without, image) > 0.03


@pytest.mark.parametrize("box", [32, 33])
def test_turning_back_turns_first_and_then_moves(box: int) -> None:
    """A quarter turn from +x towards +y takes (4, 0) to (0, 4); a shift of (2, −1) centres what lies at (−2, 5)."""
    average = gaussian_blob(box, (4.0, 0.0)).float()
    angle, shift = torch.tensor([0.0, torch.pi / 2]), torch.tensor([[0.0, 0.0], [2.0, -1.0]])
    turned = turned_back(average, torch.zeros(2, dtype=torch.long), angle, shift)
    expected = torch.cat([average, gaussian_blob(box, (-2.0, 5.0)).float()])
    assert relative_mse(turned, expected) < 2e-3


@pytest.mark.parametrize("ctf", ["off", "on"])
def test_turned_views_lie_on_one_another(tmp_path: Path, ctf: str) -> None:
    images = made(tmp_path, size=16, setting="directional", ctf=ctf)
    angle, shift = torch.from_numpy(images.shown.angle_rad), torch.from_numpy(images.poses.shifts_px)
    zero = torch.zeros(1, dtype=torch.long)
    # The first image, centred; it is then turned and moved on to each.
    centred = turned_back(torch.from_numpy(images.clean[:1]), zero, torch.zeros(1), -shift[:1])
    shown = turned_back(centred, torch.zeros(16, dtype=torch.long), angle - angle[0], shift)
    assert relative_mse(shown, images.clean) < 0.01


def test_the_background_gives_averages_their_mean() -> None:
    image = gaussian_blob(48, (0.0, 0.0), 5.0).float()
    rings = FourierRings.up_to(48, 23, 48)
    without = rings.to_images(rings.sample(image))
    assert relative_mse(without, image) > 0.03
    assert relative_mse(on_zero_background(without), image) < 0.015


@pytest.mark.parametrize("ctf", ["off", "on"])
def test_the_oracle_and_classes_are_nearly_exact_without_noise(tmp_path: Path, ctf: str) -> None:
    images = made(tmp_path, snr=500.0, ctf=ctf, size=48)
    assert relative_mse(oracle_then("wiener")(images, "general").images, images.clean) < 0.01
    classes = class_averaging(images, "general")
    assert relative_mse(classes.images, images.clean) < 0.15
    assert classes.label is not None
    assert classes.seconds > 0


def test_the_oracle_gains_what_averaging_gains(tmp_path: Path) -> None:
    """Each view's mean is as good as one image of so much higher SNR."""
    averaged = made(tmp_path / "a", snr=0.05, setting="directional", size=64)
    alone = made(tmp_path / "b", snr=0.05 * 64, setting="directional", size=64)
    one = oracle_then("wiener")(averaged, "directional").images

    def error(images: np.ndarray, truth: ImageSet) -> float:
        return relative_mse(images, truth.clean)

    from clarice.denoise.registry import denoise_all, get_denoiser

    single = denoise_all(get_denoiser("wiener")(alone.noisy_set()), 64, 32)
    assert error(one, averaged) == pytest.approx(error(single, alone), rel=0.4)


def test_classes_fill_and_settings_without_views_are_refused(tmp_path: Path) -> None:
    counts = [class_count("general", size) for size in (8, 32, 128)]
    assert counts == [2, 8, 8]
    assert class_count("directional", 512) == 1
    assert class_count("all-different", 128) == 8
    with pytest.raises(UsageError, match="4 images"):
        class_count("single", 1)
    with pytest.raises(UsageError, match="view of its own"):
        oracle_then("wiener")(made(tmp_path, size=4, setting="all-different"), "all-different")
