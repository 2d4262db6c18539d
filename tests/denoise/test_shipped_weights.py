"""The weights that come with the package: they give what their example says, and nothing for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import clarice
from clarice.core.particles import Poses
from clarice.denoise.example import answer
from clarice.denoise.networks import NETWORKS
from clarice.denoise.trained import EXAMPLE_IMAGES, EXAMPLE_NOISY, TrainedNetwork, load_trained
from clarice.geometry.so3 import random_rotations
from clarice.io.weights import read_weights
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate

FOLDER = Path(clarice.__file__).parent / "weights"
SHIPPED = sorted(path for path in FOLDER.glob("*.safetensors") if path.stem in NETWORKS)
DENOISING = [name for name, kind in NETWORKS.items() if kind.alone or kind.joint]
LARGEST_BYTES = 16 * 2**20


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


def test_the_polar_transformer_is_shipped() -> None:
    assert "polar-transformer" in {one.stem for one in SHIPPED}


def test_the_example_replays(path: Path) -> None:
    stored, trained = read_weights(path), load_trained(path)
    images = answer(trained.network, stored.tensors[EXAMPLE_NOISY])
    expected = stored.tensors[EXAMPLE_IMAGES]
    assert expected.std() > 0
    assert torch.allclose(images, expected, atol=5e-3 * float(expected.abs().max()))


def test_each_is_small_named_after_its_network_and_has_a_card(path: Path) -> None:
    trained = load_trained(path)
    assert path.stat().st_size <= LARGEST_BYTES
    assert trained.kind is NETWORKS[path.stem]
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    assert f"{trained.card['images']:,} images" in page
    assert f"{trained.parameters:,} parameters" in page


def particles(snr: float) -> SimulatedSet:
    poses = Poses(random_rotations(32, torch.Generator().manual_seed(3)), torch.zeros((32, 2)).double().numpy())
    settings = SimulationSettings(32, 64, 5, snr=snr, ctf=False, max_shift_px=0)
    return simulate(make_molecule(2**31 + 7, mass_kda=200), settings, poses=poses)


def output_power(trained: TrainedNetwork, noisy: torch.Tensor) -> float:
    with torch.no_grad():
        images = trained.network(noisy[None] if trained.kind.joint else noisy[:, None]).images
    return float(images.square().mean())


def test_noise_alone_gives_almost_nothing() -> None:
    """Less than 1 % of the power that the same method puts out for particles, 32 images at SNR 0.02."""
    trained = load_trained(FOLDER / "polar-transformer.safetensors")
    noise = torch.randn((32, 64, 64), generator=torch.Generator().manual_seed(8))
    real = torch.from_numpy(particles(0.02).images)
    assert output_power(trained, noise) < 0.01 * output_power(trained, real)


def test_particles_come_out_nearer_to_the_truth_than_any_constant(path: Path) -> None:
    """A made-up molecule, never trained on, at SNR 0.05."""
    if path.stem not in DENOISING:
        pytest.skip("does not denoise by itself")
    trained, made = load_trained(path), particles(0.05)
    noisy, clean = torch.from_numpy(made.images), torch.from_numpy(made.clean)
    with torch.no_grad():
        images = trained.network(noisy[None] if trained.kind.joint else noisy[:, None]).images.view_as(clean)
    error = float((images - clean).square().sum() / clean.square().sum())
    assert error < 0.25
