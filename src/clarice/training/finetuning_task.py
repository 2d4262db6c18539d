"""Fine-tuning on a user's own particles, without clean targets: a network learns to foretell what it is not shown.

A random part of the Fourier coefficients is hidden, the same in all particles of a set: the network sees the others, as
if the CTF were 0 at those hidden. The loss is its error on what was hidden of each particle. It is the same part in all
of them because particles that overlap on their micrograph share noise. Some particles are never judged by in training:
on them it is measured whether anything was gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from clarice.core.errors import UsageError
from clarice.core.particles import RowIndex
from clarice.denoise.network_input import network_input
from clarice.denoise.networks import network_kind
from clarice.denoise.trained import TrainedNetwork
from clarice.physics.noisy_set import NoisySet
from clarice.training.simulated_sets import NetworkSettings, SettingsPart
from clarice.training.split_coefficients import drawn_mask, unseen_error

# Streams of random numbers: which particles are kept out, which make a batch, what is hidden in it and in validation.
_KEPT_OUT, _ORDER, _HIDDEN, _JUDGED = range(4)


class FinetuningSettings(SettingsPart):
    """How a network is fine-tuned: images a set, the share of coefficients shown, the share of particles kept out of
    training to judge by, and at most how many sets they are judged in.
    """

    network: NetworkSettings
    images: int = Field(default=128, ge=1)
    shown: float = Field(default=0.8, gt=0, lt=1)
    kept_out: float = Field(default=0.15, gt=0, lt=1)
    judged_sets: int = Field(default=8, ge=1)


@dataclass(frozen=True)
class SplitSet:
    """One set of particles: whitened images (1, n, L, L), W H and what is `shown` (1, n, L, L // 2 + 1).

    `judged` (1, n): by which particles the network is judged.
    """

    noisy: Tensor
    transfer: Tensor
    shown: Tensor
    judged: Tensor

    def to(self, device: torch.device) -> SplitSet:
        """The same set on another device."""
        return SplitSet(*(t.to(device) for t in (self.noisy, self.transfer, self.shown, self.judged)))

    def error(self, network: nn.Module) -> Tensor:
        """Error on what is hidden of each particle, (n,), in units of the noise's variance."""
        images = network(self.noisy, self.transfer * self.shown).images
        return unseen_error(images[0], self.noisy[0], self.transfer[0], self.shown[0])


class FinetuningTask:
    """Sets of a stack's own particles, in groups of those that look alike."""

    def __init__(
        self,
        noisy: NoisySet,
        groups: Sequence[RowIndex],
        trained: TrainedNetwork,
        settings: FinetuningSettings,
        seed: int,
    ) -> None:
        self.noisy, self.trained, self.settings, self.seed = noisy, trained, settings, seed
        least = min(len(group) for group in groups)
        self.images_per_batch = min(settings.images, least)
        self.groups = list(groups)
        drawn = self._generator(_KEPT_OUT)
        self.kept_out = torch.rand(len(noisy), generator=drawn).numpy() < settings.kept_out
        if self.kept_out.all() or not self.kept_out.any():
            raise UsageError(f"{len(noisy)} particles are too few to fine-tune on: some must be kept to judge by")

    def _generator(self, stream: int, *more: int) -> torch.Generator:
        words = np.random.SeedSequence([self.seed, stream, *more]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))

    @property
    def source(self) -> str:
        """What is trained on."""
        return f"{len(self.noisy)} particles of a stack"

    @property
    def description(self) -> str:
        """The same in a sentence for the log."""
        kept_out = int(self.kept_out.sum())
        return f"{len(self.noisy) - kept_out:,} particles of the stack; {kept_out:,} others to judge by"

    def model(self) -> nn.Module:
        """The network with the weights it is fine-tuned from."""
        changes = self.settings.network.changes
        network = network_kind(self.settings.network.name).build(changes)
        network.load_state_dict(self.trained.network.state_dict())
        return network

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> SplitSet:  # noqa: ARG002
        """Batch number `position`: one set, which cannot be shared out."""
        if world > 1:
            raise UsageError("fine-tuning takes one process and no training.accumulate: a batch is one set")
        groups = len(self.groups)
        order = torch.randperm(groups, generator=self._generator(_ORDER, 0, position // groups))
        group = self.groups[int(order[position % groups])]
        drawn = torch.randperm(len(group), generator=self._generator(_ORDER, 1, position))
        rows = np.sort(group[drawn[: self.images_per_batch].numpy()])
        return self.split(rows, self._generator(_HIDDEN, position), ~self.kept_out[rows]).to(device)

    def largest(self, position: int) -> int:
        """All are of one size."""
        return position

    def split(self, rows: RowIndex, generator: torch.Generator, judged: Any) -> SplitSet:
        """Particles of `rows`, of which a random part is hidden; `judged` (n,) by which of them."""
        images, transfer = network_input(self.noisy, rows, self.trained.box)
        box = images.shape[-1]
        if transfer is None:
            transfer = torch.ones((len(rows), box, box // 2 + 1))
        shown = drawn_mask(box, 1, self.settings.shown, generator).expand(len(rows), -1, -1)
        return SplitSet(images[None], transfer[None], shown[None], torch.as_tensor(judged)[None])

    def loss(self, model: nn.Module, batch: SplitSet) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean error on what is hidden of the particles that are judged."""
        judged = batch.judged[0].float()
        error = (batch.error(model) * judged).sum() / judged.sum().clamp_min(1)
        return error, {"unseen_error": error}

    @cached_property
    def judged_sets(self) -> list[SplitSet]:
        """Fixed sets, each of which has particles that were kept out."""
        return self.sets_to_judge(_JUDGED)

    def sets_to_judge(self, stream: int) -> list[SplitSet]:
        """Sets of evenly chosen groups, in which those kept out are judged by; other `stream`, other coefficients."""
        chosen = np.unique(np.linspace(0, len(self.groups) - 1, self.settings.judged_sets).astype(np.int64))
        sets = []
        for number in chosen:
            group = self.groups[number]
            generator = self._generator(stream, int(number))
            first = group[self.kept_out[group]]
            others = group[~self.kept_out[group]]
            drawn = torch.randperm(len(others), generator=generator).numpy()
            rows = np.concatenate([first, others[drawn]])[: self.images_per_batch]
            if self.kept_out[rows].any():
                rows = np.sort(rows)
                sets.append(self.split(rows, generator, self.kept_out[rows]))
        return sets

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The mean error on what is hidden of particles that were kept out."""
        errors = kept_out_errors(model, self.judged_sets, device)
        return {"error": float(errors.mean())}


@torch.no_grad()
def kept_out_errors(model: nn.Module, sets: Sequence[SplitSet], device: torch.device) -> Tensor:
    """Error of each particle that is judged by, over all sets, on the CPU."""
    return torch.cat([one.to(device).error(model)[one.judged[0].to(device)].cpu() for one in sets])
