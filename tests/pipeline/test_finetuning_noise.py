"""Fine-tuning with pure noise among the particles, of which nothing is to be left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.training.finetuning_sets import BOX, CPU, noise, settings_of, short, task, trained
from tests.training.runs import quick

from clarice.core.particles import ArraySource, ParticleSet, Poses
from clarice.denoise.trained import TrainedNetwork, load_trained, trained_network
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline.finetuning import finetune

__all__ = ["quick", "trained"]  # fixtures


def test_some_images_are_pure_noise_by_which_nobody_is_judged(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained, empty=0.3, empty_sets=0.2)
    images = made.noisy.particles.read()
    batches = [made.batch(position, 0, 1, CPU) for position in range(40)]
    shares = [float(batch.empty.float().mean()) for batch in batches]
    assert 0.05 < np.mean([share == 1 for share in shares]) < 0.4
    assert np.mean([share for share in shares if share < 1]) == pytest.approx(0.3, abs=0.06)
    for batch in batches[:10]:
        assert not (batch.judged & batch.empty).any()
        for image, empty in zip(batch.noisy[0], batch.empty[0], strict=True):
            assert bool((images == image.numpy()).all(axis=(1, 2)).any()) != bool(empty)
    white = torch.cat([batch.noisy[batch.empty] for batch in batches])
    assert float(white.square().mean()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(white[0], white[1])


@pytest.mark.usefixtures("quick")
def test_noise_among_particles_keeps_a_network_from_showing_one_in_any_image(
    trained: TrainedNetwork, tmp_path: Path
) -> None:
    """All particles of this stack show the same view: to put it into every image explains the hidden part well."""
    settings = SimulationSettings(80, BOX, seed=3, snr=0.3, max_shift_px=0.0)
    poses = Poses(np.tile(np.eye(3), (80, 1, 1)), np.zeros((80, 2)))
    noisy = white_set(simulate(make_molecule(3, mass_kda=60), settings, poses=poses).particles)
    white = noise(64, seed=5).images(np.arange(64))[None]
    left, shared = {}, {}
    for empty in (0.0, 0.3):
        folder = tmp_path / f"{empty}"
        folder.mkdir()
        _, gain = finetune(noisy, trained, folder, settings_of(trained, empty=empty, empty_sets=empty), short(3200))
        assert gain is not None
        assert gain.better
        tuned = load_trained(folder / "weights" / "polar-transformer.safetensors").network
        with torch.no_grad():
            left[empty] = float(tuned(white).images.square().mean())
        shared[empty] = gain.noise_after
    assert left[0.3] < 0.4 * left[0.0]
    assert shared[0.0] is not None
    assert shared[0.3] is not None
    assert abs(shared[0.3]) < 0.5 * shared[0.0]


@pytest.mark.usefixtures("quick")
def test_on_noise_a_network_that_comes_to_say_less_has_gained_nothing(trained: TrainedNetwork, tmp_path: Path) -> None:
    """It errs less for that alone, and never less than images of zeros: the weights stay."""
    white = noise(200)
    _, gain = finetune(white, trained, tmp_path, settings_of(trained, kept_out=0.5), short(960))
    assert gain is not None
    assert gain.gained
    assert not gain.better
    assert gain.over_nothing < 0.01
    after = load_trained(tmp_path / "training" / "best.safetensors").network
    said = [network(white.images(np.arange(200))[None]).images.square().mean() for network in (trained.network, after)]
    assert said[1] < said[0]
    kept = load_trained(tmp_path / "weights" / "polar-transformer.safetensors").network.state_dict()
    for name, tensor in trained.network.state_dict().items():
        assert torch.allclose(kept[name], tensor, atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("quick")
def test_a_shipped_network_gains_nothing_on_noise(tmp_path: Path) -> None:
    white = white_set(ParticleSet(ArraySource(pure_noise_images(128, 64)), 3.0))
    shipped = trained_network("polar-cnn")
    settings = settings_of(shipped, images=32, kept_out=0.6)
    training = short(320, rate=1e-4).model_copy(update={"validate_images": 160})
    _, gain = finetune(white, shipped, tmp_path, settings, training)
    assert gain is not None
    assert not gain.better
    assert abs(gain.over_nothing) < 0.01


def pure_noise_images(count: int, box: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=(count, box, box)).astype(np.float32)


@pytest.mark.usefixtures("quick")
def test_a_network_that_says_nothing_gains_nothing_on_noise_and_the_weights_stay(
    trained: TrainedNetwork, tmp_path: Path
) -> None:
    with torch.no_grad():  # a network that makes nothing of noise, as trained ones do
        for name in ("leave.weight", "leave.bias"):
            dict(trained.network.named_parameters())[name].zero_()
    folder = tmp_path / "run"
    folder.mkdir()
    _, gain = finetune(noise(80), trained, folder, settings_of(trained), short(640))
    assert gain is not None
    assert gain.before == pytest.approx(1, abs=0.15)
    assert not gain.better
    kept = load_trained(folder / "weights" / "polar-transformer.safetensors").network.state_dict()
    for name, tensor in trained.network.state_dict().items():
        assert torch.allclose(kept[name], tensor, atol=1e-3, rtol=1e-3)
    assert "those from before" in (folder / "weights" / "polar-transformer.md").read_text()
