"""Where a training run keeps its state, and from which state it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from clarice import __version__
from clarice.core.errors import InputError
from clarice.training.recipe import Recipe
from clarice.training.schedule import decay_start, least_images
from clarice.training.settings import TrainingSettings
from clarice.training.tensor_files import read_facts, read_tensors, write_tensors

FOLDER = "checkpoints"
LAST, BEFORE_DECAY = "last", "before-decay"


@dataclass(frozen=True)
class Place:
    """How far training is, beside the tensors: the position is that of the data and of all random numbers as well.

    `source` is that of the task, `checkpoint_seconds` and `validation_seconds` are what these took last. The first
    checkpoints had none of the three.
    """

    recipe: dict[str, Any]
    position: int
    images: int
    seconds: float
    accumulate: int
    world: int
    validations: list[tuple[int, float]]
    best: tuple[int, float] | None
    sums: list[dict[str, tuple[float, int]]]  # of the log, by process
    source: str | None = None
    checkpoint_seconds: float = 0.0
    validation_seconds: float = 0.0
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

    def to_go_on_from(self, recipe: Recipe, end: int | None, source: str) -> str | None:
        """The checkpoint on the course of `recipe` to batch number `end`, the furthest; None in a new folder.

        Raises InputError when there are checkpoints, but of another recipe or `source`, or beyond the end of this one.
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
        if place.source not in (None, source):
            raise InputError(
                f"{last} was trained on {place.source}, not on {source}: name the same data, as with "
                "--set data=FOLDER or CLARICE_DATA, or choose another folder"
            )
        settings = recipe.training
        trained = TrainingSettings.model_validate(place.recipe["training"])
        if trained.images == settings.images:
            return LAST
        least: list[int | None] = []
        for name, reached in self._before_decay(place, trained):
            if reached.images <= decay_start(settings) and (end is None or reached.position <= end):
                return name
            least.append(least_images(reached.images, settings))
        raise InputError(
            f"{last} has seen {place.images:,} images of a training {_length(trained)}: to train {_length(settings)} "
            f"choose another folder, or pass {_feasible(trained, least)}"
        )

    def _before_decay(self, last: Place, trained: TrainingSettings) -> Iterator[tuple[str, Place]]:
        """The checkpoints that were reached at the full learning rate, the furthest first."""
        if last.images <= decay_start(trained):
            yield LAST, last
        early = self._index(BEFORE_DECAY)
        if early.exists():
            yield BEFORE_DECAY, _place(read_facts(early), early)

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


def _length(settings: TrainingSettings) -> str:
    return "without an end" if settings.images is None else f"for {settings.images:,}"


def _feasible(trained: TrainingSettings, least: Sequence[int | None]) -> str:
    """The numbers of images with which a run goes on: that of before, and any from the smallest of `least` on."""
    known = [images for images in least if images is not None]
    if known and (trained.images is None or min(known) <= trained.images):
        return f"at least --set training.images={min(known)}"
    before = f"--set training.images={'null' if trained.images is None else trained.images} as before"
    return f"{before}, or at least {min(known)}" if known else before


def training_card(place: Place) -> dict[str, Any]:
    """What a weights' card says about its training."""
    return {
        "recipe": place.recipe,
        "source": place.source,
        "images": place.images,
        "seconds": round(place.seconds, 1),
        "processes": place.world,
        "validation_error": place.validations[-1][1] if place.validations else None,
        "version": place.version,
    }
