"""Fine-tuning a network to a stack: training on its own particles, and a verdict on whether anything was gained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.example import with_example
from clarice.denoise.placed_network import PlacedNetwork
from clarice.denoise.trained import TrainedNetwork, load_trained, weights_digest
from clarice.io.atomic import writing
from clarice.io.weights import write_weights
from clarice.physics.noisy_set import NoisySet
from clarice.physics.null_particles import pure_noise
from clarice.pipeline.disjoint_sources import shared_power, source_groups, telling_groups
from clarice.pipeline.durable import write_json
from clarice.pipeline.hidden_coefficients import beyond_chance, clustered_mean
from clarice.pipeline.null_controls import MOST_SHARED
from clarice.training.finetuning_task import (
    JUDGED_BY,
    FinetuningSettings,
    FinetuningTask,
    SplitSet,
    judged_errors,
)
from clarice.training.loop import nobody, train
from clarice.training.recipe import Recipe
from clarice.training.settings import TrainingSettings
from clarice.training.summary import BEST_WEIGHTS, Outcome
from clarice.training.task import RegisteredTask

TRAINING, WEIGHTS, RECORD = "training", "weights", "finetuning.json"
# How often each particle is seen, within bounds, and how fast weights move.
_PASSES, _LEAST_IMAGES, _MOST_IMAGES = 20, 20_000, 400_000
_LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Gain:
    """Error on what was hidden of particles held out, in units of the noise's variance.

    `nothing`: that of an image of zeros, which is the power of the data: 1 where there is noise alone. `gain` is the
    mean of before less after over the particles of `sets`; `error` its standard error by the spread between sets: the
    particles of one share their sources, and what is hidden. `over_nothing` and `over_nothing_error` are
    the same of zeros less after. `frc_before` and `frc_after` (box // 2 + 1,):
    between images from disjoint sources; `noise_before` and `noise_after`, what two such images of pure noise share,
    over the power of particles' images: the part that is the network's own.
    """

    particles: int
    sets: int
    before: float
    after: float
    gain: float
    error: float
    nothing: float
    over_nothing: float
    over_nothing_error: float
    frc_before: list[float]
    frc_after: list[float]
    noise_before: float | None
    noise_after: float | None

    @property
    def better(self) -> bool:
        """Whether the fine-tuned weights explain unseen data better, beyond chance, and than images of zeros do.

        A network that says something of noise gains by saying less: that is no news of the particles.
        """
        return self.gained and beyond_chance(self.over_nothing, self.over_nothing_error, self.sets)

    @property
    def gained(self) -> bool:
        """Whether the fine-tuned weights err less than those from before, beyond chance."""
        return beyond_chance(self.gain, self.error, self.sets)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        told = f"held-out error {self.before:.5f} before and {self.after:.5f} after"
        told += f" (gain {self.gain:.2g} ± {self.error:.1g}; an image of zeros has {self.nothing:.5f})"
        if not self.gained:
            told += ": no gain beyond chance, so the weights are those from before"
        elif not self.better:
            told += ": they err less by saying less, and no less than zeros do, so the weights are those from before"
        else:
            told += ": the fine-tuned weights explain unseen data better, and are kept"
        own = self.noise_after if self.better else self.noise_before
        if own is not None and own > MOST_SHARED:
            told += f"; but two images of pure noise share {own:.0%} of the power of particles' images"
        return told


def usual_training(particles: int, images: int | None = None) -> TrainingSettings:
    """Training of a length that suits a stack, or on so many `images`."""
    total = min(max(_PASSES * particles, _LEAST_IMAGES), _MOST_IMAGES) if images is None else images
    return TrainingSettings(
        images=total,
        learning_rate=_LEARNING_RATE,
        precision="auto",
        warmup_images=total // 20,
        decay_share=0.5,
        average_images=total // 10,
        log_images=max(1, total // 100),
        validate_images=max(1, total // 20),
    )


def finetune(
    noisy: NoisySet,
    trained: TrainedNetwork,
    folder: Path,
    settings: FinetuningSettings,
    training: TrainingSettings,
    *,
    start: TrainedNetwork | None = None,
    seed: int = 0,
    minutes: float | None = None,
    started: float | None = None,
    tell: Callable[[str], None] = nobody,
    progress: Progress = silent,
) -> tuple[Outcome, Gain | None]:
    """Fine-tunes `trained` on the particles; the weights, with a card, go to `folder/weights`.

    Training starts from `start` where that is given, such as the same network with fewer blocks; `trained` is what its
    result is compared with all the same. Called again, it goes on where it stopped; there is a verdict once training
    has ended. Weights that explain unseen data no better than those before are not kept: then the file holds those
    before, and its card says so.

    Raises UsageError for a network that does not denoise, or too few particles.
    """
    if not trained.kind.denoises:
        raise UsageError(f"{trained.kind.name} cannot be fine-tuned: choose a network that denoises")
    start = trained if start is None else start
    task = FinetuningTask(noisy, partial(source_groups, noisy, trained, progress), start, settings, seed)
    recipe = _recipe(folder, task, settings, training, seed)
    outcome = train(recipe, folder / TRAINING, minutes=minutes, started=started, tell=tell, progress=progress)
    if outcome.end != "images":
        return outcome, None
    tuned = replace(start, network=load_trained(folder / TRAINING / BEST_WEIGHTS).network)
    gain = _gain(task, trained, tuned, progress)
    _write(folder, trained, tuned, gain, outcome, recipe.content)
    return outcome, gain


def _recipe(
    folder: Path, task: FinetuningTask, settings: FinetuningSettings, training: TrainingSettings, seed: int
) -> Recipe:
    """What the loop is given: its task is at hand, and no file names it."""
    registered = RegisteredTask("finetune", FinetuningSettings, lambda _settings, _seed: task)
    content: dict[str, Any] = {
        "task": registered.name,
        "seed": seed,
        "training": training.model_dump(mode="json"),
        **settings.model_dump(mode="json"),
        "particles": len(task.noisy),
    }
    return Recipe(folder, seed, training, registered, settings, content)


def _gain(task: FinetuningTask, before: TrainedNetwork, after: TrainedNetwork, progress: Progress) -> Gain:
    placed = [PlacedNetwork(network) for network in (before, after)]
    sets = task.sets_to_judge_by()
    errors: list[list[Tensor]] = []
    for number, one in enumerate(placed):
        progress("judging by particles held out", number, 4)
        errors.append(_errors(one, sets))
    gain, spread = clustered_mean([before - after for before, after in zip(*errors, strict=True)])
    particles, groups, twice = _telling_part(task)
    white = pure_noise(particles, task.seed)
    groups_of_noise = source_groups(white, before)  # as particles have theirs: noise chooses its sources as well
    curves, of_noise = [], []
    for number, one in enumerate(placed, start=2):
        progress("judging by disjoint sources", number, 4)
        shown = shared_power(one, particles, groups, twice, task.seed)
        nothing_shown = shared_power(one, white, groups_of_noise, twice, task.seed)
        curves.append(shown.frc.round(5).tolist())
        of_noise.append(nothing_shown.share_of(shown))
    progress("judging", 4, 4)
    zeros = [one.error_of_nothing()[one.judged[0]].double() for one in sets]
    over_nothing = clustered_mean([nothing - after for nothing, after in zip(zeros, errors[1], strict=True)])
    first, second, nothing = (float(torch.cat(values).mean()) for values in (*errors, zeros))
    particles_judged = sum(len(values) for values in zeros)
    return Gain(particles_judged, len(sets), first, second, gain, spread, nothing, *over_nothing, *curves, *of_noise)


def _telling_part(task: FinetuningTask) -> tuple[NoisySet, list[RowIndex], NDArray[np.bool_]]:
    """Particles of the groups from which disjoint sources are taken, these groups among them, and who is judged by."""
    chosen = telling_groups(task.groups, task.use == JUDGED_BY)
    rows = np.concatenate([*chosen, np.zeros(0, dtype=np.int64)])
    ends = np.cumsum([len(group) for group in chosen])
    return task.noisy.subset(rows), np.split(np.arange(len(rows)), ends)[: len(chosen)], task.use[rows] == JUDGED_BY


def _errors(placed: PlacedNetwork, sets: Sequence[SplitSet]) -> list[Tensor]:
    with placed.precision():
        return [errors.double() for errors in judged_errors(placed.network, sets, placed.device)]


def _write(
    folder: Path, before: TrainedNetwork, after: TrainedNetwork, gain: Gain, outcome: Outcome, content: dict[str, Any]
) -> None:
    """Weights under the network's name, so that CLARICE_WEIGHTS may name their folder; their card; the record."""
    kept = after if gain.better else before
    output = folder / WEIGHTS / f"{before.kind.name}.safetensors"
    output.parent.mkdir(exist_ok=True)
    verdict = {**asdict(gain), "better": gain.better, "sentence": gain.sentence}
    card = {**kept.card, "finetuned": {"recipe": content, "images": outcome.images, "verdict": verdict}}
    tensors = {name: tensor.cpu() for name, tensor in kept.network.state_dict().items()}
    write_weights(output, with_example(tensors, kept), card, torch.float16)
    with writing(output.with_suffix(".md")) as temporary:
        temporary.write_text(_page(before.kind.name, gain, outcome, content), encoding="utf-8")
    made = {"weights_sha256": weights_digest(output), "images": outcome.images, "seconds": round(outcome.seconds, 1)}
    write_json(folder / RECORD, {**made, **verdict, "recipe": content})


def _page(name: str, gain: Gain, outcome: Outcome, content: dict[str, Any]) -> str:
    lines = [
        f"# {name}, fine-tuned",
        "",
        f"- to {content['particles']:,} particles of one stack, {outcome.images:,} images in {outcome.seconds:,.0f} s",
        f"- {gain.sentence}",
        "- two images of pure noise from disjoint sources share "
        f"{_share(gain.noise_before)} of the power of particles' images before, and {_share(gain.noise_after)} after",
        f"- judged by {gain.particles:,} particles held out, in {gain.sets} sets",
        f"- hidden: {1 - content['shown']:.0%} of the Fourier coefficients, in training up to "
        f"{1 - content['least_shown']:.0%}",
        "- what foretells its error was not calibrated anew",
        "- validation error by images seen: "
        + ", ".join(f"{images:,} {error:.5f}" for images, error in outcome.validations),
        "",
        "| Fourier shell | FRC of disjoint sources before | after |",
        "|---|---|---|",
        *(
            f"| {shell} | {first:.3f} | {second:.3f} |"
            for shell, (first, second) in enumerate(zip(gain.frc_before, gain.frc_after, strict=True))
        ),
        "",
    ]
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.1%}"
