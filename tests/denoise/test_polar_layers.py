"""Convolutions along the angle and over the polar plane, against sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clarice.denoise.polar_layers import AngularConv, PlanarConv


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_bias(layer: AngularConv | PlanarConv) -> AngularConv | PlanarConv:
    with torch.no_grad():
        layer.weight.copy_(noise(*layer.weight.shape, seed=1))
        layer.bias.copy_(noise(*layer.bias.shape, seed=2))
    return layer


@pytest.mark.parametrize("width", [1, 3, 5])
def test_angular_convolution_is_a_periodic_sum_over_angle_and_channel(width: int) -> None:
    layer = with_bias(AngularConv(3, 4, width))
    signals = noise(2, 6, 3)
    kernel = layer.weight.view(4, 3, width)
    expected = torch.zeros(2, 6, 4)
    for angle in range(6):
        for step in range(width):
            expected[:, angle] += signals[:, (angle + step - width // 2) % 6] @ kernel[:, :, step].T
    assert torch.allclose(layer(signals), expected + layer.bias, atol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_planar_convolution_is_periodic_in_angle_and_stays_within_the_rings_of_a_space(width: int) -> None:
    spaces, planes_in, planes_out, angles = (3, 2), 2, 3, 6
    rings, space_of = sum(spaces), [0, 0, 0, 1, 1]
    layer = with_bias(PlanarConv(spaces, rings * planes_in, rings * planes_out, width))
    signals = noise(2, angles, rings * planes_in)
    kernel = layer.weight.view(planes_out, planes_in, width, width)
    plane, reach = signals.view(2, angles, rings, planes_in), width // 2
    expected = layer.bias.expand(2, angles, rings, planes_out).clone()
    for angle in range(angles):
        for ring in range(rings):
            for step in range(width):
                for up in range(width):
                    other = ring + up - reach
                    if 0 <= other < rings and space_of[other] == space_of[ring]:
                        seen = plane[:, (angle + step - reach) % angles, other]
                        expected[:, angle, ring] += seen @ kernel[:, :, step, up].T
    assert torch.allclose(layer(signals), expected.flatten(-2), atol=1e-5)
