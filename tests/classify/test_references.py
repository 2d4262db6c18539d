"""Filtering, masking and centring of class references against plain real-space counterparts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.classify.blobs import draw

from clarice.classify.references import (
    ClassSums,
    centre_of_mass,
    centred,
    shift_rings,
    signal_power,
    soft_disk,
    spectral_prior,
    turn,
    wiener,
)
from clarice.geometry.polar import FourierRings, from_hartley, hartley


def blob_images(box: int, shift: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    points = np.array([[[3.0, 1.0], [-2.0, 4.0], [-1.0, -5.0]]]) + np.array(shift)
    return torch.from_numpy(draw(points, box)).float()


@pytest.mark.parametrize("box", [32, 33])
def test_shifting_rings_moves_the_content(box: int) -> None:
    rings = FourierRings.up_to(box, (box - 1) // 2, box)
    moved = shift_rings(hartley(rings.sample(blob_images(box))), torch.tensor([[1.5, -2.25]]), rings)
    expected = hartley(rings.sample(blob_images(box, (1.5, -2.25))))
    assert (moved - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("box", [32, 33])
def test_centre_of_mass_counts_from_the_centre_index(box: int) -> None:
    image = torch.from_numpy(draw(np.array([[[2.5, -3.0]]]), box)).float()
    assert torch.allclose(centre_of_mass(image), torch.tensor([[2.5, -3.0]]), atol=0.02)


def test_centring_brings_the_mass_home_and_says_how_far_it_moved() -> None:
    box = 32
    rings = FourierRings.up_to(box, 15, box)
    image = torch.from_numpy(draw(np.array([[[2.0, -1.5]]]), box)).float()
    mask = soft_disk(box, 12)
    signals, move = centred(hartley(rings.sample(image)), rings, mask, largest_px=5.0)
    assert torch.allclose(move, torch.tensor([[-2.0, 1.5]]), atol=0.1)
    assert centre_of_mass(rings.to_images(from_hartley(signals))).abs().max() < 0.1
    _, limited = centred(hartley(rings.sample(image)), rings, mask, largest_px=1.0)
    assert float(torch.linalg.vector_norm(limited)) == pytest.approx(1.0, abs=1e-4)


def test_turn_goes_from_x_towards_y() -> None:
    turned = turn(torch.tensor([[1.0, 0.0]]), torch.tensor([np.pi / 2]))
    assert torch.allclose(turned, torch.tensor([[0.0, 1.0]]), atol=1e-6)


def test_signal_power_is_free_of_the_noise() -> None:
    box, angles, averaged = 32, 48, 50.0
    generator = torch.Generator().manual_seed(0)
    signal = 40.0 * torch.randn((200, 3, angles), generator=generator)
    noise = box / averaged**0.5 * torch.randn((200, 3, angles), generator=generator)
    sums = ClassSums((signal + noise) * averaged, torch.full((200, 3), averaged))
    assert signal_power(sums, box).mean() == pytest.approx(40.0**2, rel=0.03)
    only_noise = ClassSums(noise * averaged, torch.full((200, 3), averaged))
    assert signal_power(only_noise, box).mean() < 0.15 * box**2 / averaged


def test_wiener_filter_has_the_least_error_at_the_true_prior() -> None:
    box, averaged = 32, 4.0
    generator = torch.Generator().manual_seed(1)
    signal = 20.0 * torch.randn((300, 1, 16), generator=generator)
    noise = box / averaged**0.5 * torch.randn((300, 1, 16), generator=generator)
    sums = ClassSums((signal + noise) * averaged, torch.full((300, 1), averaged))

    def error(prior: float) -> float:
        return float((wiener(sums, torch.full((300, 1), prior), box) - signal).square().mean())

    assert error(400.0) < error(200.0)
    assert error(400.0) < error(800.0)


def test_prior_of_a_faint_class_keeps_a_floor() -> None:
    sums = ClassSums(torch.stack([torch.full((4, 16), 1e5), torch.zeros((4, 16))]), torch.full((2, 4), 10.0))
    prior = spectral_prior(sums, 32)
    assert (prior[1] > 0).all()
    assert (prior[1] < prior[0]).all()
    assert (spectral_prior(sums, 32, floor=0.0)[1] == 0).all()


def test_soft_disk_falls_from_one_to_zero() -> None:
    disk = soft_disk(33, 8, edge_px=4)
    assert disk[16, 16] == 1
    assert disk[16, 16 + 8] == 1
    assert disk[16, 16 + 10] == pytest.approx(0.5, abs=1e-6)
    assert disk[16, 16 + 12] == pytest.approx(0.0, abs=1e-6)
