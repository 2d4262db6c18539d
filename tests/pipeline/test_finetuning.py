"""Fine-tuning on a stack's own particles: what is hidden, who is held out, what is gained, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.denoise.sampling_weights import write_random_weights
from tests.training.runs import quick, stop_after

from clarice.core.errors import UsageError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.trained import TrainedNetwork, load_trained, network_settings, trained_network
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline.disjoint_sources import denoised_twice, disjoint_frc
from clarice.pipeline.finetuning import Gain, finetune, usual_training
from clarice.training.finetuning_task import FinetuningSettings, FinetuningTask
from clarice.training.settings import TrainingSettings

__all__ = ["quick"]  # a fixture
BOX = 24
CPU = torch.device("cpu")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainedNetwork:
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    write_random_weights(tmp_path)
    return trained_network("polar-transformer")


def noise(count: int, seed: int = 1) -> NoisySet:
    images = np.random.default_rng(seed).normal(size=(count, BOX, BOX)).astype(np.float32)
    return white_set(ParticleSet(ArraySource(images), 3.0))


def particles(count: int) -> NoisySet:
    settings = SimulationSettings(count, BOX, seed=3, snr=1.0, max_shift_px=0.0)
    return white_set(simulate(make_molecule(3, mass_kda=60), settings).particles)


def settings_of(trained: TrainedNetwork, **more: float) -> FinetuningSettings:
    given = {"network": network_settings(trained), "images": 16, "judged_sets": 3, **more}
    return FinetuningSettings.model_validate(given)


def task(noisy: NoisySet, trained: TrainedNetwork, **more: float) -> FinetuningTask:
    groups = [np.arange(0, len(noisy), 2), np.arange(1, len(noisy), 2)]
    return FinetuningTask(noisy, groups, trained, settings_of(trained, **more), seed=1)


def short(images: int, rate: float = 2e-3) -> TrainingSettings:
    return usual_training(100, images).model_copy(update={"learning_rate": rate, "warmup_images": 0})


def test_the_network_is_not_shown_what_it_is_judged_by(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained)
    network = made.model().eval()
    batch = made.batch(0, 0, 1, CPU)
    changed = torch.fft.irfft2(torch.fft.rfft2(batch.noisy) * batch.shown + 100 * (~batch.shown), s=(BOX, BOX))
    with torch.no_grad():
        first, second = (network(images, batch.transfer * batch.shown).images for images in (batch.noisy, changed))
    assert torch.allclose(first, second, atol=1e-3)
    assert float(batch.shown.float().mean()) == pytest.approx(0.8, abs=0.1)


def test_batches_are_the_same_whenever_they_are_asked_for_and_leave_some_particles_out(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained)
    one, two = made.batch(3, 0, 1, CPU), task(noise(60), trained).batch(3, 0, 1, CPU)
    assert torch.equal(one.noisy, two.noisy)
    assert torch.equal(one.shown, two.shown)
    assert not torch.equal(one.shown, made.batch(4, 0, 1, CPU).shown)
    assert 0 < made.kept_out.mean() < 0.4
    for position in range(6):
        batch = made.batch(position, 0, 1, CPU)
        for image, judged in zip(batch.noisy[0], batch.judged[0], strict=True):
            row = int(np.flatnonzero((made.noisy.particles.read() == image.numpy()).all(axis=(1, 2)))[0])
            assert bool(judged) is not bool(made.kept_out[row])
    with pytest.raises(UsageError, match="one process"):
        made.batch(0, 0, 2, CPU)


def test_what_is_judged_by_in_the_end_are_other_coefficients_of_particles_kept_out(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained)
    usual, others = made.judged_sets, made.sets_to_judge(4)
    assert usual
    assert not torch.equal(usual[0].shown, others[0].shown)
    kept_out = made.noisy.particles.read()[made.kept_out]
    for one in usual:
        for image in one.noisy[0][one.judged[0]]:
            assert (kept_out == image.numpy()).all(axis=(1, 2)).any()


def test_too_few_particles_are_refused(trained: TrainedNetwork) -> None:
    with pytest.raises(UsageError, match="too few to fine-tune"):
        FinetuningTask(noise(2), [np.arange(2)], trained, settings_of(trained, kept_out=0.01), seed=1)


@pytest.mark.usefixtures("quick")
def test_a_network_gains_on_particles_and_goes_on_where_it_stopped(trained: TrainedNetwork, tmp_path: Path) -> None:
    """One with random weights has everything to learn."""
    noisy, settings = particles(80), settings_of(trained)
    folder = tmp_path / "run"
    folder.mkdir()
    outcome, none = finetune(noisy, trained, folder, settings, short(1600), progress=stop_after(320))
    assert none is None
    assert outcome.images == 320
    outcome, gain = finetune(noisy, trained, folder, settings, short(1600))
    assert outcome.images == 1600
    assert gain is not None
    assert gain.better
    assert gain.after < gain.before
    path = folder / "weights" / "polar-transformer.safetensors"
    tuned = load_trained(path)
    assert tuned.card["finetuned"]["verdict"]["better"]
    assert not torch.equal(next(tuned.network.parameters()), next(trained.network.parameters()))
    record = json.loads((folder / "finetuning.json").read_text())
    assert record["gain"] == pytest.approx(gain.gain)
    assert "and are kept" in path.with_suffix(".md").read_text()


@pytest.mark.usefixtures("quick")
def test_nothing_is_gained_on_noise_and_the_weights_stay(trained: TrainedNetwork, tmp_path: Path) -> None:
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


def test_images_from_disjoint_sources_share_no_noise(trained: TrainedNetwork) -> None:
    placed = PlacedNetwork(trained)
    noisy = noise(40)
    first, second = denoised_twice(placed, noisy, np.arange(40), 1)
    assert len(first) == 13
    # Another image of its own, or another source, on one side: the other side does not notice.
    changed = np.array(noisy.particles.read())
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(1)).numpy()
    changed[rows[13]] += 5  # the first of the first half's sources
    again, same = denoised_twice(placed, white_set(ParticleSet(ArraySource(changed), 3.0)), np.arange(40), 1)
    assert not torch.allclose(again, first, atol=1e-3)
    assert torch.allclose(same, second, atol=1e-4)
    curve = disjoint_frc(placed, noisy, [np.arange(40)], 1)
    assert curve.shape == (BOX // 2 + 1,)


def test_gains_within_their_error_are_none() -> None:
    assert Gain(100, 1.1, 1.0, 0.1, 0.04, [], []).better
    assert not Gain(100, 1.1, 1.0, 0.1, 0.06, [], []).better
    assert "no gain beyond chance" in Gain(100, 1.1, 1.0, 0.1, 0.06, [], []).sentence


def test_the_usual_length_grows_with_the_stack_within_bounds() -> None:
    assert usual_training(100).images == 10_000
    assert usual_training(5_000).images == 50_000
    assert usual_training(10**6).images == 400_000
    assert usual_training(5_000, 77).images == 77
