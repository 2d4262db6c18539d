"""Where a training run keeps its state, and from which state it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clarice import __version__
from clarice.core.errors import InputError
from clarice.io.weights import write_weights
from clarice.training.recipe import Recipe
from clarice.training.schedule import decay_start
from clarice.training.settings import TrainingSettings
from clarice.training.tensor_files import read_facts, read_tensors, write_tensors

FOLDER = "checkpoints"
LAST, BEFORE_DECAY = "last", "before-decay"


@dataclass(frozen=True)
class Place:
    """How far training is, beside the tensors: the position is that of the data and of all random numbers as well."""

    recipe: dict[str, Any]
    position: int
    images: int
    seconds: float
    accumulate: int
    world: int
    validations: list[tuple[int, float]]
    best: tuple[int, float] | None
    sums: list[dict[str, tuple[float, int]]]  # of the log, by process
    version: str = __version__


class Checkpoints:
    """The checkpoints of a run folder: `last`, and `before-decay` from which training can be prolonged."""

    def __init__(self, run_folder: Path, shard_mb: float) -> None:
        self.folder = run_folder / FOLDER
        self.shard_mb = shard_mb

    def save(self, name: str, tensors: Mapping[str, Tensor], place: Place) -> None:
        """Replaces checkpoint `name` in one step."""
        write_tensors(self._index(name), tensors, asdict(place), f"{place.images:012d}", self.shard_mb)

    def load(self, name: str) -> tuple[dict[str, Tensor], Place]:
        """Checkpoint `name`."""
        tensors, facts = read_tensors(self._index(name))
        return tensors, _place(facts, self._index(name))

    def to_go_on_from(self, recipe: Recipe) -> str | None:
        """The checkpoint that lies on the course of `recipe`, the furthest; None in a new folder.

        Raises InputError when there are checkpoints, but of another recipe or beyond the end of this one.
        """
        last = self._index(LAST)
        if not last.exists():
            return None
        place = _place(read_facts(last), last)
        differs = recipe.difference(place.recipe)
        if differs:
            raise InputError(
                f"{last} was trained by another recipe ({differs}): restore that value, or choose another folder"
            )
        settings = recipe.training
        trained = TrainingSettings.model_validate(place.recipe["training"])
        if trained.images == settings.images or place.images <= min(decay_start(trained), decay_start(settings)):
            return LAST
        early = self._index(BEFORE_DECAY)
        if early.exists() and _place(read_facts(early), early).images <= decay_start(settings):
            return BEFORE_DECAY
        raise InputError(
            f"{last} has seen {place.images:,} images at learning rates for {trained.images or 0:,}: "
            f"to train for {settings.images or 0:,} choose another folder, or pass at least "
            f"--set training.images={trained.images}"
        )

    def _index(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _place(facts: Mapping[str, Any], index: Path) -> Place:
    try:
        return Place(
            **{
                **facts,
                "validations": [(int(images), float(error)) for images, error in facts["validations"]],
                "best": None if facts["best"] is None else (int(facts["best"][0]), float(facts["best"][1])),
            }
        )
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{index} is not a training checkpoint of this version: choose another folder") from error


def export_weights(
    checkpoint: Path,
    output: Path,
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes the averaged weights of `checkpoint` (its JSON index) to `output`, a safetensors file.

    Its card says by which recipe and for how many images it was trained, and what `card` adds to that.
    Floating tensors are stored as `dtype`; `clarice.io.weights.read_weights` gives them back as float32.
    """
    tensors, facts = read_tensors(checkpoint)
    place = _place(facts, checkpoint)
    averaged = {n.removeprefix("average."): t for n, t in tensors.items() if n.startswith("average.")}
    write_weights(output, averaged, {**training_card(place), **(card or {})}, dtype)


def training_card(place: Place) -> dict[str, Any]:
    """What a weights' card says about its training."""
    return {
        "recipe": place.recipe,
        "images": place.images,
        "seconds": round(place.seconds, 1),
        "processes": place.world,
        "validation_error": place.validations[-1][1] if place.validations else None,
        "version": place.version,
    }
