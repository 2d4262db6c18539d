"""Fine-tuning on a stack's own particles: what is gained, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.training.finetuning_sets import BOX, noise, particles, settings_of, short, trained
from tests.training.runs import quick, stop_after

from clarice.core.errors import InputError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.denoise.depth import with_attention_blocks
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.trained import TrainedNetwork, load_trained, network_settings, trained_network
from clarice.physics.molecules import make_molecule
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.pipeline import finetuning
from clarice.pipeline.disjoint_sources import denoised_twice, shared_power
from clarice.pipeline.finetuning import Gain, finetune, usual_training
from clarice.pipeline.hidden_coefficients import clustered_mean, foretold

__all__ = ["quick", "trained"]  # fixtures


@pytest.mark.usefixtures("quick")
def test_other_particles_or_weights_are_another_training(trained: TrainedNetwork, tmp_path: Path) -> None:
    settings, folder = settings_of(trained), tmp_path / "run"
    folder.mkdir()
    halves = [particles(160).subset(np.arange(start, 160, 2)) for start in (0, 1)]
    finetune(halves[0], trained, folder, settings, short(160))
    with pytest.raises(InputError, match="was trained on 80 particles"):
        finetune(halves[1], trained, folder, settings, short(160))
    darker = replace(halves[0], particles=inverted(halves[0].particles))
    with pytest.raises(InputError, match="was trained on 80 particles"):
        finetune(darker, trained, folder, settings, short(160))
    other = load_trained(folder / "training" / "last.safetensors")
    with pytest.raises(InputError, match="from a polar-transformer"):
        finetune(halves[0], other, folder, settings, short(160))


@pytest.mark.usefixtures("quick")
def test_particles_to_judge_by_are_grouped_by_what_is_shown_of_them(
    trained: TrainedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By all there is to train and to find images from disjoint sources, in four parts or more to judge, in one to
    choose weights.
    """
    asked: list[tuple[int, torch.Tensor | None]] = []

    def grouped(noisy: NoisySet, _: TrainedNetwork, *rest: object) -> list[NDArray[np.int64]]:
        asked.append((len(noisy), rest[1] if len(rest) > 1 else None))  # type: ignore[arg-type]
        return [np.arange(len(noisy))]

    monkeypatch.setattr(finetuning, "source_groups", grouped)
    finetune(particles(80), trained, tmp_path, settings_of(trained), short(160))
    parts = [shown for _, shown in asked if shown is not None]
    assert asked[0][1] is None
    assert asked[-1][1] is None
    assert len(parts) >= 5
    assert len({tuple(shown.flatten().tolist()) for shown in parts}) == len(parts)


def inverted(particles: ParticleSet) -> ParticleSet:
    return replace(particles, images=ArraySource(-particles.read()))


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
    assert gain.nothing > 1
    path = folder / "weights" / "polar-transformer.safetensors"
    tuned = load_trained(path)
    assert tuned.card["finetuned"]["verdict"]["better"]
    assert not torch.equal(next(tuned.network.parameters()), next(trained.network.parameters()))
    record = json.loads((folder / "finetuning.json").read_text())
    assert record["gain"] == pytest.approx(gain.gain)
    assert "and are kept" in path.with_suffix(".md").read_text()


def test_a_network_sees_particles_and_nothing_in_noise() -> None:
    """The one that comes with the package, on particles of a molecule it never saw."""
    usual = trained_network("polar-transformer")
    settings = SimulationSettings(200, 64, seed=3, snr=0.1, max_shift_px=0.0)
    found = foretold(white_set(simulate(make_molecule(3, mass_kda=60), settings).particles), usual, 1)
    assert found.sees
    assert found.gain > 0.01
    assert found.gain > 0.2 * found.power > 0
    images = np.random.default_rng(1).normal(size=(200, 64, 64)).astype(np.float32)
    nothing = foretold(white_set(ParticleSet(ArraySource(images), 3.0)), usual, 1)
    assert not nothing.sees
    assert abs(nothing.gain) < 0.001
    # A gain beyond chance, but next to none of what there is, is no sight.
    assert not replace(found, gain=0.01 * found.power, error=1e-4 * found.power).sees


def test_images_from_disjoint_sources_share_no_noise(trained: TrainedNetwork) -> None:
    placed, noisy = PlacedNetwork(trained), noise(40)
    twice, sources = np.arange(10), np.arange(10, 40)
    first, second = denoised_twice(placed, noisy, twice, sources, 1)
    assert len(first) == 10
    # Another source on one side: the other side does not notice. Another particle, and both do, but itself alone.
    images = noisy.particles.read()
    for row in sources:
        changed = np.array(images)
        changed[row] = np.random.default_rng(9).normal(size=(BOX, BOX))
        again = denoised_twice(placed, white_set(ParticleSet(ArraySource(changed), 3.0)), twice, sources, 1)
        assert torch.allclose(again[0], first, atol=1e-4) != torch.allclose(again[1], second, atol=1e-4)
    # A coefficient is shown to one side alone, in the particles and in their sources.
    wave = np.cos(2 * np.pi * 5 * np.arange(BOX) / BOX).astype(np.float32)
    moved = white_set(ParticleSet(ArraySource(images + wave), 3.0))
    again = denoised_twice(placed, moved, twice, sources, 1)
    changes = [float((now - before).square().mean()) for now, before in zip(again, (first, second), strict=True)]
    assert min(changes) < 0.01 * max(changes)  # rounded to bfloat16 where the processor has it


def test_disjoint_sources_do_not_overlap_on_the_micrograph(trained: TrainedNetwork) -> None:
    """Of particles in a row each overlaps two on either side: what lies nearer than that has no part in an image."""
    placed, plain = PlacedNetwork(trained), noise(40)
    centre = np.stack([30.0 * np.arange(40), np.zeros(40)], axis=1)  # boxes of 24 pixels of 3 Å

    def denoised(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        stack = ParticleSet(ArraySource(images), 3.0, micrograph=np.full(40, "m"), centre_angstrom=centre)
        pair = denoised_twice(placed, white_set(stack), np.array([20]), np.array([2, 3, 10, 18, 19, 21, 22, 30]), 1)
        return [image.numpy()[0] for image in pair]

    images = plain.particles.read()
    before, notice = denoised(images), {}
    for row in (2, 3, 10, 18, 19, 21, 22, 30):
        changed = np.array(images)
        changed[row] = np.random.default_rng(9).normal(size=(BOX, BOX))
        notice[row] = [
            not np.allclose(now, then, atol=1e-5) for now, then in zip(denoised(changed), before, strict=True)
        ]
    assert all(sum(sides) <= 1 for sides in notice.values())
    assert notice[2] == notice[3]
    assert sum(notice[10]) == sum(notice[30]) == sum(notice[2]) == 1


def test_the_frc_is_of_the_particles_that_are_asked_for(trained: TrainedNetwork) -> None:
    placed, noisy = PlacedNetwork(trained), noise(40)
    twice = np.arange(40) % 5 == 0
    found = shared_power(placed, noisy, [np.arange(40)], twice, 1)
    first, second = (images.numpy() for images in denoised_twice(placed, noisy, *rows_of(twice), 1))
    spectra = [np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1)) / BOX for images in (first, second)]
    shell = np.rint(np.hypot(*np.mgrid[-BOX // 2 : BOX // 2, -BOX // 2 : BOX // 2])).astype(int)
    cross = (spectra[0] * spectra[1].conj()).real.mean(axis=0)
    power = [(np.abs(each) ** 2).mean(axis=0) for each in spectra]
    for number in range(BOX // 2):
        assert found.shared[number] == pytest.approx(cross[shell == number].mean(), rel=1e-3)
        whole = np.sqrt(power[0][shell == number].mean() * power[1][shell == number].mean())
        assert found.frc[number] == pytest.approx(cross[shell == number].mean() / whole, rel=1e-3)
    # Groups without such particles, or of them alone, have no part in it.
    assert len(shared_power(placed, noisy, [np.array([0, 5, 6]), np.arange(1, 5)], twice, 1).frc) == 0


def rows_of(twice: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.flatnonzero(twice), np.flatnonzero(~twice)


@pytest.mark.usefixtures("quick")
def test_a_shallower_network_is_compared_with_the_whole_one(trained: TrainedNetwork, tmp_path: Path) -> None:
    start = with_attention_blocks(trained, 1)
    settings = settings_of(start)
    _, gain = finetune(particles(80), trained, tmp_path, settings, short(640), start=start)
    _, again = finetune(particles(80), start, tmp_path, settings, short(640))
    assert gain is not None
    assert again is not None
    assert gain.better
    assert gain.before != pytest.approx(again.before, rel=1e-6)
    assert gain.after == pytest.approx(again.after)
    tuned = load_trained(tmp_path / "weights" / "polar-transformer.safetensors")
    assert network_settings(tuned)["attention_blocks"] == 1


def judged(**changed: float) -> Gain:
    given = {"particles": 100, "sets": 32, "before": 1.1, "after": 1.0, "gain": 0.1, "error": 0.04, "nothing": 1.3}
    usual = {**given, "over_nothing": 0.3, "over_nothing_error": 0.04, "noise_before": 0.01, "noise_after": 0.02}
    return Gain(frc_before=[], frc_after=[], **{**usual, **changed})  # type: ignore[arg-type]


def test_gains_within_their_error_are_none() -> None:
    assert judged().better
    assert "explain unseen data better" in judged().sentence
    assert not judged(error=0.06).better
    assert "no gain beyond chance" in judged(error=0.06).sentence
    # Who says less of noise errs less, and has learned nothing of the particles.
    assert not judged(nothing=0.9, over_nothing=-0.1).better
    assert not judged(over_nothing_error=0.2).better
    assert "no less than zeros do, so the weights are those from before" in judged(over_nothing=-0.1).sentence
    assert "share 20% of the power" in judged(noise_after=0.2).sentence
    # Few sets say little about their spread (Student's t).
    assert not judged(sets=3).better
    assert not judged(sets=1, error=float("inf")).better


def test_the_standard_error_is_that_of_clusters() -> None:
    """Values that are all alike within clusters are no more than so many values."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn((400,), generator=generator, dtype=torch.float64)
    mean, error = clustered_mean([centre.expand(7) for centre in centres])
    assert mean == pytest.approx(float(centres.mean()))
    assert error == pytest.approx(float(centres.std()) / 20, rel=1e-6)
    # Independent values: as if there were no clusters.
    values = torch.randn((400, 7), generator=generator, dtype=torch.float64)
    assert clustered_mean(list(values))[1] == pytest.approx(float(values.std()) / 2800**0.5, rel=0.15)


def test_the_usual_length_grows_with_the_stack_within_bounds() -> None:
    assert usual_training(100).images == 20_000
    assert usual_training(5_000).images == 100_000
    assert usual_training(10**6).images == 400_000
    assert usual_training(5_000, 77).images == 77
