"""Fewer and more blocks of attention than a network was trained with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.denoise.sampling_weights import BOX, SIZES, write_random_weights

from clarice.core.errors import UsageError
from clarice.denoise.depth import with_attention_blocks
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.trained import TrainedNetwork, load_trained, network_settings

BLOCKS = SIZES["polar-transformer"]["attention_blocks"]


@pytest.fixture
def trained(tmp_path: Path) -> TrainedNetwork:
    write_random_weights(tmp_path)
    return load_trained(tmp_path / "polar-transformer.safetensors")


def images() -> torch.Tensor:
    return torch.randn((1, 6, BOX, BOX), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_new_blocks_change_nothing_until_they_are_trained(trained: TrainedNetwork) -> None:
    deeper = with_attention_blocks(trained, BLOCKS + 2)
    before, after = trained.network(images()), deeper.network(images())
    assert torch.allclose(after.images, before.images, atol=1e-5)
    assert torch.allclose(after.log_error, before.log_error, atol=1e-5)
    assert network_settings(deeper)["attention_blocks"] == BLOCKS + 2
    assert network_settings(trained)["attention_blocks"] == BLOCKS


def test_new_blocks_can_learn(trained: TrainedNetwork) -> None:
    network = with_attention_blocks(trained, BLOCKS + 1).network.requires_grad_(True)
    network(images()).images.square().sum().backward()
    assert isinstance(network, PolarTransformer)
    added = dict(network.attention[-1].named_parameters())
    for name in ("attend.merge.weight", "digest.second.weight"):
        gradient = added[name].grad
        assert gradient is not None
        assert gradient.abs().max() > 0


@torch.no_grad()
def test_a_shallower_network_is_the_first_blocks(trained: TrainedNetwork) -> None:
    shallower = with_attention_blocks(trained, 1)
    network = trained.network
    assert isinstance(network, PolarTransformer)
    features = network.denoise_rings(network.measure(images(), None))
    network.attention = network.attention[:1]
    wanted = network.denoise_rings(network.measure(images(), None))
    assert torch.equal(shallower.network(images()).images, network.images_of(wanted.rings))
    assert not torch.allclose(features.rings, wanted.rings)


def test_other_networks_and_no_blocks_are_refused(trained: TrainedNetwork, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 blocks of attention are none"):
        with_attention_blocks(trained, 0)
    with pytest.raises(UsageError, match="has no blocks of attention"):
        with_attention_blocks(load_trained(tmp_path / "diffusion.safetensors"), 2)
