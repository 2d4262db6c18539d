"""Small stacks and tasks of fine-tuning, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.denoise.sampling_weights import write_random_weights

from clarice.core.particles import ArraySource, ParticleSet
from clarice.denoise.trained import TrainedNetwork, network_settings, trained_network
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline.finetuning import usual_training
from clarice.training.finetuning_task import FinetuningSettings, FinetuningTask
from clarice.training.settings import TrainingSettings

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
    return FinetuningTask(noisy, lambda _: groups, trained, settings_of(trained, **more), seed=1)


def short(images: int, rate: float = 2e-3) -> TrainingSettings:
    return usual_training(100, images).model_copy(update={"learning_rate": rate, "warmup_images": 0})
