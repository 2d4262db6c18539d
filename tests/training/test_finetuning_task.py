"""Fine-tuning sets: what is hidden, who judges, and that nothing hidden chose a particle's sources."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.training.finetuning_sets import BOX, CPU, noise, settings_of, task, trained

from clarice.core.errors import UsageError
from clarice.core.overlap import overlapping
from clarice.core.particles import ArraySource, ParticleSet
from clarice.denoise.estimate import Estimate
from clarice.denoise.learned import look_alikes
from clarice.denoise.networks import network_kind
from clarice.denoise.trained import TrainedNetwork
from clarice.physics.noisy_set import white_set
from clarice.training.finetuning_task import CHOSEN_BY, JUDGED_BY, TRAINED_ON, FinetuningTask, split_set

__all__ = ["trained"]  # a fixture


def test_the_network_is_not_shown_what_it_is_judged_by(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained)
    network = made.model().eval()
    batch = made.batch(0, 0, 1, CPU)
    changed = torch.fft.irfft2(torch.fft.rfft2(batch.noisy) * batch.shown + 100 * (~batch.shown), s=(BOX, BOX))
    with torch.no_grad():
        first, second = (network(images, batch.transfer * batch.shown).images for images in (batch.noisy, changed))
    assert torch.allclose(first, second, atol=1e-3)


def test_sets_know_which_of_their_particles_overlap(trained: TrainedNetwork) -> None:
    stack = noise(60).particles
    centre = np.stack([np.zeros(60), 20.0 * np.arange(60)], axis=1)  # boxes of 24 pixels of 3 Å
    noisy = white_set(replace(stack, micrograph=np.full(60, "m"), centre_angstrom=centre))
    made = task(noisy, trained, empty=0, empty_sets=0)
    for one in (made.batch(0, 0, 1, CPU), *made.sets_to_choose_by):
        rows = [int(np.flatnonzero((stack.read() == image).all(axis=(1, 2)))[0]) for image in one.noisy[0].numpy()]
        assert one.allowed is not None
        assert torch.equal(one.allowed[0], ~torch.from_numpy(overlapping(noisy.particles, np.array(rows))))
        without = replace(one, allowed=None)
        model = made.model().eval()
        with torch.no_grad():
            assert not torch.allclose(one.images(model), without.images(model), atol=1e-4)
    alone = replace(trained, kind=network_kind("polar-cnn"))
    assert split_set(noisy, np.arange(9), alone, torch.ones((BOX, BOX // 2 + 1), dtype=torch.bool)).allowed is None


def test_training_shows_from_half_to_four_fifths_and_judging_four_fifths(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained)
    shares = [float(made.batch(position, 0, 1, CPU).shown.float().mean()) for position in range(12)]
    assert 0.45 < min(shares) < 0.6
    assert 0.7 < max(shares) < 0.85
    for one in made.sets_to_choose_by:
        assert float(one.shown.float().mean()) == pytest.approx(0.8, abs=0.05)
    always = task(noise(60), trained, least_shown=0.8)
    assert float(always.batch(0, 0, 1, CPU).shown.float().mean()) == pytest.approx(0.8, abs=0.05)


def test_batches_are_the_same_whenever_they_are_asked_for_and_leave_some_particles_out(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained, empty=0, empty_sets=0)
    one, two = made.batch(3, 0, 1, CPU), task(noise(60), trained, empty=0, empty_sets=0).batch(3, 0, 1, CPU)
    assert torch.equal(one.noisy, two.noisy)
    assert torch.equal(one.shown, two.shown)
    assert not torch.equal(one.shown, made.batch(4, 0, 1, CPU).shown)
    assert 0.6 < (made.use == TRAINED_ON).mean() < 1
    for position in range(6):
        batch = made.batch(position, 0, 1, CPU)
        for image, judged in zip(batch.noisy[0], batch.judged[0], strict=True):
            row = int(np.flatnonzero((made.noisy.particles.read() == image.numpy()).all(axis=(1, 2)))[0])
            assert bool(judged) == (made.use[row] == TRAINED_ON)
    with pytest.raises(UsageError, match="one process"):
        made.batch(0, 0, 2, CPU)


def test_particles_that_judge_in_the_end_chose_no_weights_and_come_once(trained: TrainedNetwork) -> None:
    made = task(noise(60), trained)
    images = made.noisy.particles.read()
    for sets, use in ((made.sets_to_choose_by, CHOSEN_BY), (made.sets_to_judge_by(), JUDGED_BY)):
        assert len(sets) > 1
        judged = np.concatenate([one.noisy[0][one.judged[0]].numpy() for one in sets])
        rows = [int(np.flatnonzero((images == image).all(axis=(1, 2)))[0]) for image in judged]
        assert sorted(rows) == np.flatnonzero(made.use == use).tolist()
        assert not torch.equal(sets[0].shown[0, 0], sets[-1].shown[0, 0])


def test_what_is_judged_by_had_no_part_in_the_choice_of_sources(trained: TrainedNetwork) -> None:
    """Not through the groups either: other coefficients there, the same groups."""
    asked: list[torch.Tensor | None] = []

    def grouping(shown: torch.Tensor | None) -> list[NDArray[np.int64]]:
        asked.append(shown)
        return [np.arange(200)]

    made = FinetuningTask(noise(200), grouping, trained, settings_of(trained), seed=1)
    sets = made.sets_to_judge_by()
    assert asked[0] is None
    assert len(asked) - 1 >= len(sets) > 3
    parts = [shown for shown in asked[1:] if shown is not None]
    assert all(any(torch.equal(one.shown[0, 0], shown) for shown in parts) for one in sets)
    shown = parts[0]
    stack = noise(300)
    spectra = torch.fft.rfft2(stack.images(np.arange(300)))
    other = torch.fft.irfft2(torch.where(shown, spectra, spectra.flip(0)), s=(BOX, BOX)).numpy()
    changed = replace(stack, particles=replace(stack.particles, images=ArraySource(other)))
    of_one, of_other = (look_alikes(each, trained, 64, shown=shown) for each in (stack, changed))
    assert all(np.array_equal(one, two) for one, two in zip(of_one, of_other, strict=True))
    by_all = look_alikes(changed, trained, 64)
    assert not all(np.array_equal(one, two) for one, two in zip(of_one, by_all, strict=True))


def test_whole_micrographs_are_kept_out_where_there_are_many(trained: TrainedNetwork) -> None:
    white = noise(120)
    names = np.array([f"{row % 40}.mrc" for row in range(120)])
    made = task(replace(white, particles=replace(white.particles, micrograph=names)), trained, kept_out=0.4)
    for name in np.unique(names):
        assert len(np.unique(made.use[names == name])) == 1
    few = np.array([f"{row % 2}.mrc" for row in range(120)])
    made = task(replace(white, particles=replace(white.particles, micrograph=few)), trained, kept_out=0.4)
    assert len(np.unique(made.use[few == "0.mrc"])) > 1


def test_too_few_particles_are_refused(trained: TrainedNetwork) -> None:
    with pytest.raises(UsageError, match="too few to fine-tune"):
        FinetuningTask(noise(2), lambda _: [np.arange(2)], trained, settings_of(trained, kept_out=0.01), seed=1)


def test_in_a_smaller_box_noise_alone_has_error_one(trained: TrainedNetwork) -> None:
    """Beyond the Nyquist frequency of the stack's own box there is nothing, and nobody is judged by it."""
    images = np.random.default_rng(1).normal(size=(120, 16, 16)).astype(np.float32)
    small = white_set(ParticleSet(ArraySource(images), 3.0))
    made = FinetuningTask(small, lambda _: [np.arange(120)], trained, settings_of(trained, images=64), seed=1)
    batch = made.batch(0, 0, 1, CPU)

    def nothing(noisy: torch.Tensor, transfer: torch.Tensor) -> Estimate:
        return Estimate(torch.zeros_like(noisy), transfer)

    assert float(batch.error(nothing).mean()) == pytest.approx(1, abs=0.05)  # type: ignore[arg-type]
