"""The network with its optimiser and averaged weights: one step of gradient descent, and its whole state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clarice.core.errors import InputError
from clarice.core.seeds import seeds_of
from clarice.training.optimisers import Optimisers
from clarice.training.processes import Processes
from clarice.training.schedule import newcomer_share, share_of_rate
from clarice.training.settings import TrainingSettings
from clarice.training.task import Task
from clarice.training.weight_average import WeightAverage

_MODEL, _AVERAGE, _OPTIMISER = "model", "average", "optimiser"


class Learner:
    """A task's network while it learns, on the device of `processes`.

    Gradients are averaged over equal shares of a batch: those of the processes, and those that follow one another
    where a share does not fit into memory at once.
    """

    def __init__(self, task: Task, settings: TrainingSettings, seed: int, processes: Processes) -> None:
        self.task = task
        self.settings = settings
        self.seed = seed
        self.processes = processes
        torch.manual_seed(seed)
        self.model = task.model().to(processes.device).train()
        self.average = WeightAverage(self.model)
        self._parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimisers = Optimisers(self._parameters, settings, processes.device)

    def gradients(self, position: int, shares: Sequence[Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of batch number `position`, of which `shares` are this process's equal parts; weights stay.

        Returns the loss and the named scalars, means over the parts that stay on the device.
        """
        # A background thread that chose one thread for itself chose it for matrix products everywhere.
        torch.set_num_threads(torch.get_num_threads())
        self._seed_step(position)
        self.optimisers.clear_gradients()
        parts = [self._descend(share, len(shares)) for share in shares]
        loss = torch.stack([part[0] for part in parts]).mean()
        return loss, {name: torch.stack([part[1][name].detach() for part in parts]).mean() for name in parts[0][1]}

    def apply(self, position: int) -> Tensor:
        """Steps number `position` along the gradients, averaged over the processes; returns their norm."""
        batch, images = self.task.images_per_batch, position * self.task.images_per_batch
        if self.processes.world > 1:
            self._average_over_processes()
        limit = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        norm = nn.utils.clip_grad_norm_(list(self._parameters.values()), limit)
        self.optimisers.step(share_of_rate(images, batch, self.settings))
        self.average.update(self.model, newcomer_share(images, batch, self.settings))
        return norm

    def _descend(self, share: Any, parts: int) -> tuple[Tensor, dict[str, Tensor]]:
        with self.processes.fabric.autocast():
            loss, scalars = self.task.loss(self.model, share)
        self.processes.fabric.backward(loss / parts)
        return loss.detach(), scalars

    def _seed_step(self, position: int) -> None:
        """Dropout and the like draw from (seed, position, rank): going on at a position needs no generator's state."""
        torch.manual_seed(seeds_of(self.seed, position, self.processes.rank)[0])

    @torch.no_grad()
    def _average_over_processes(self) -> None:
        """Means over the processes of all gradients and of running statistics, in one message."""
        tensors = [p.grad for p in self._parameters.values() if p.grad is not None]
        tensors += self._statistics()
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        self.processes.add_up(flat)
        flat /= self.processes.world
        for tensor, mean in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def _statistics(self) -> list[Tensor]:
        kept = self.model.state_dict()
        return [b for name, b in self.model.named_buffers() if name in kept and b.is_floating_point()]

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return dict(self.average.model.state_dict())

    def state(self) -> dict[str, Tensor]:
        """Network, average and optimiser by name; the rest of the state is the position."""
        tensors = {f"{_MODEL}.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"{_AVERAGE}.{name}": t for name, t in self.weights().items()}
        return tensors | {f"{_OPTIMISER}.{name}": t for name, t in self.optimisers.state().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave. Raises InputError when it belongs to another network."""
        try:
            self.model.load_state_dict(_part(tensors, _MODEL))
            self.average.model.load_state_dict(_part(tensors, _AVERAGE))
        except RuntimeError as error:
            raise InputError(
                "the checkpoint holds another network than the recipe makes: choose another run folder"
            ) from error
        self.optimisers.restore(_part(tensors, _OPTIMISER))


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
