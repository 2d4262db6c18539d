"""What the loop trains, and the tasks by name: one file and one decorator make a task trainable from a recipe."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from clarice.core.errors import UsageError

# Each module registers its tasks when it is imported.
TASK_MODULES: tuple[str, ...] = ("denoising_task", "diffusion_task", "refiner_task", "structure_task", "joint_task")


class Task(Protocol):
    """What the loop trains: it knows neither molecules nor networks."""

    images_per_batch: int

    @property
    def source(self) -> str:
        """What batches are made from, in the same words wherever it lies: a run goes on with the same alone."""
        ...

    @property
    def description(self) -> str:
        """What batches are made from, and where it lies, in a sentence for the log."""
        ...

    def model(self) -> nn.Module:
        """A new network on the CPU; its initial weights may come from the global generator, seeded by the loop."""
        ...

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> Any:
        """Share `rank` of `world` equal shares of batch number `position`; the same whenever it is asked for.

        Called from a background thread: random numbers come from generators of its own. Raises UsageError when the
        batch cannot be shared out evenly.
        """
        ...

    def largest(self, position: int) -> int:
        """A batch from `position` on that takes as much memory as any: the one that memory is measured by."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a mean over the sets of the batch, and named scalars for the log, means as well."""
        ...

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Figures on fixed sets, in float32 and without gradients; "error" is the one that is judged."""
        ...


S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class RegisteredTask:
    """A task by name: the model of its keys in a recipe, and what makes the task of them and a seed."""

    name: str
    settings: type[BaseModel]
    make: Callable[[Any, int], Task]


_registered: dict[str, RegisteredTask] = {}


def task(name: str, settings: type[S]) -> Callable[[Callable[[S, int], Task]], Callable[[S, int], Task]]:
    """Registers the decorated function as task `name`.

    `settings` is the model of the recipe's keys other than task, seed and training; it should forbid extra keys. The
    function is called with an instance of it and the recipe's seed.
    """

    def register(make: Callable[[S, int], Task]) -> Callable[[S, int], Task]:
        known = _registered.get(name)
        if known is not None and known.make.__module__ != make.__module__:
            raise ValueError(f"two tasks are named {name}")
        _registered[name] = RegisteredTask(name, settings, make)
        return make

    return register


def task_names() -> list[str]:
    """Every registered task, in alphabetical order."""
    for module in TASK_MODULES:
        importlib.import_module(f"clarice.training.{module}")
    return sorted(_registered)


def get_task(name: str) -> RegisteredTask:
    """The task `name`. Raises UsageError, with the names there are, for any other."""
    names = task_names()
    if name not in _registered:
        raise UsageError(f"there is no task {name!r} to train: choose one of {', '.join(names)}")
    return _registered[name]
