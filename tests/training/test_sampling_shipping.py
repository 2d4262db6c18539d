"""From a training of diffusion, and of a refiner after it, to weights that denoise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.runs import ROOT, quick, trained

from clarice.core.errors import InputError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.denoise.diffusion import denoise_by_diffusion
from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.denoise.diffusion_sampling import SamplingSettings
from clarice.denoise.example import answer
from clarice.denoise.registry import denoise_all
from clarice.denoise.trained import EXAMPLE_IMAGES, EXAMPLE_NOISY, TrainedNetwork, load_trained, weights_digest
from clarice.io.weights import read_weights
from clarice.physics.noisy_set import white_set
from clarice.training.batches import SetBatch
from clarice.training.diffusion_task import DiffusionTask
from clarice.training.shipping import ship_weights

__all__ = ["quick"]  # a fixture
SHORT = ("training.images=128", "training.log_images=64", "training.validate_images=128", "molecules=true")


def replays(path: Path) -> TrainedNetwork:
    """The network, once its example is what it was."""
    stored, loaded = read_weights(path), load_trained(path)
    expected = stored.tensors[EXAMPLE_IMAGES]
    assert expected.std() > 0
    assert torch.allclose(answer(loaded.network, stored.tensors[EXAMPLE_NOISY]), expected, atol=1e-3)
    return loaded


@pytest.mark.usefixtures("quick")
def test_a_sampler_and_its_refiner_are_trained_shipped_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = tmp_path / "diffusion", tmp_path / "diffusion.safetensors"
    trained(ROOT / "recipes" / "diffusion-tiny.yaml", run, *SHORT)
    seen: list[int] = []
    usual = DiffusionTask.simulated

    def simulated(task: DiffusionTask, position: int, rank: int, world: int, device: torch.device) -> SetBatch:
        seen.append(position)
        return usual(task, position, rank, world, device)

    monkeypatch.setattr(DiffusionTask, "simulated", simulated)
    card = ship_weights(run, path, calibration_images=40)
    # Four steps of 32 images, each batch simulated twice; images of a step come from four batches.
    assert min(seen) == 2
    sampler = replays(path)
    assert isinstance(sampler.network, DiffusionNetwork)
    assert card["trained_on"] == {}
    assert card["calibration"]["images"] >= 40
    assert float((sampler.network.unsaid != 1).float().mean()) > 0.9
    page = path.with_suffix(".md").read_text()
    assert "is left unsaid on average" in page
    assert "- structures: procedural molecules alone" in page
    plain = ship_weights(run, tmp_path / "plain.safetensors", calibration_images=0)
    assert plain["calibration"] is None

    refining, refined = tmp_path / "refiner", tmp_path / "refiner.safetensors"
    recipe = ROOT / "recipes" / "refiner-tiny.yaml"
    trained(recipe, refining, *SHORT, f"sampler={path}")
    card = ship_weights(refining, refined)
    assert card["trained_on"] == {"diffusion": weights_digest(path)}
    assert card["recipe"]["sampler"] == "diffusion.safetensors"
    assert f"on the output of diffusion {weights_digest(path)}" in refined.with_suffix(".md").read_text()
    images = np.random.default_rng(1).normal(size=(6, 32, 32)).astype(np.float32)
    noisy = white_set(ParticleSet(ArraySource(images), 3.0))
    few = SamplingSettings(steps=2, samples=2)
    assert np.isfinite(denoise_all(denoise_by_diffusion(noisy, sampler, few), 6, 32)).all()

    ship_weights(run, path, calibration_images=80)  # other weights under the same name
    with pytest.raises(InputError, match="restore that"):
        ship_weights(refining, refined)
