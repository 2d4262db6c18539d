"""Fine-tuning on a user's own particles, without clean targets: a network learns to foretell what it is not shown.

A random part of the Fourier coefficients is hidden, the same in all particles of a set: the network sees the others, as
if the CTF were 0 at those hidden. The loss is its error on what was hidden of each particle. It is the same part in all
of them because particles that overlap on their micrograph share noise. Some images of training are pure noise, and of
those nothing is to be left: where every image shows a particle, a network would learn to show one in any. Some
particles are never judged by in training: by a part of them the best weights are chosen, by the rest it is measured
whether anything was gained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from clarice.core.errors import UsageError
from clarice.core.particles import ParticleSet, RowIndex, spread_rows
from clarice.core.seeds import generator_of
from clarice.denoise.network_input import allowed_sources, explicit_transfer, known_band, network_input
from clarice.denoise.networks import network_kind
from clarice.denoise.trained import TrainedNetwork
from clarice.physics.noisy_set import NoisySet
from clarice.training.simulated_sets import NetworkSettings, SettingsPart
from clarice.training.split_coefficients import drawn_mask, unseen_error

# Rows of a stack in groups of those that look alike in what is shown (b, b // 2 + 1) of them; in all, if None.
Grouping = Callable[[Tensor | None], list[RowIndex]]
# What a particle is for: to train on, to choose the best weights by, or to say in the end what was gained.
TRAINED_ON, CHOSEN_BY, JUDGED_BY = range(3)
# Streams of random numbers: what particles are for, which make a batch, what is hidden in it and in sets to judge, and
# pure noise.
_USE, _ORDER, _HIDDEN, _JUDGED, _NOISE = range(5)
# Sets of pure noise by which weights are chosen, at most.
_NOISE_SETS = 4
# Parts of the coefficients that are hidden of particles to judge by, at least: each takes a search for look-alikes.
_LEAST_PARTS = 4
# From so many micrographs on, whole ones are kept out: their particles share noise where they overlap.
_MICROGRAPHS = 20


class FinetuningSettings(SettingsPart):
    """How a network is fine-tuned: images a set, the share of coefficients shown, the share of particles kept out of
    training, and in about how many sets weights are chosen; the verdict takes four times as many. A share
    `empty_sets` of the sets is pure noise, and a share `empty` of the images of the others.

    Sets of training are shown anything from `least_shown` to `shown`, so that the network speaks of whole particles and
    of halves of them alike; sets to judge by are shown `shown`.
    """

    network: NetworkSettings
    images: int = Field(default=128, ge=1)
    shown: float = Field(default=0.8, gt=0, lt=1)
    least_shown: float = Field(default=0.5, gt=0, lt=1)
    kept_out: float = Field(default=0.15, gt=0, lt=1)
    judged_sets: int = Field(default=8, ge=1)
    empty: float = Field(default=0.15, ge=0, lt=1)
    empty_sets: float = Field(default=0.15, ge=0, lt=1)


@dataclass(frozen=True)
class SplitSet:
    """One set of particles: whitened images (1, n, L, L), W H and what is `shown` (1, n, L, L // 2 + 1).

    `judged` (1, n): by which particles the network is judged. `empty` (1, n): which images are pure noise. `allowed`
    (1, n, n): which may be sources of which; None where all may, or the network sees each by itself.
    """

    noisy: Tensor
    transfer: Tensor
    shown: Tensor
    judged: Tensor
    empty: Tensor
    allowed: Tensor | None = None

    def to(self, device: torch.device) -> SplitSet:
        """The same set on another device."""
        allowed = None if self.allowed is None else self.allowed.to(device)
        held = (self.noisy, self.transfer, self.shown, self.judged, self.empty)
        noisy, transfer, shown, judged, empty = (tensor.to(device) for tensor in held)
        return SplitSet(noisy, transfer, shown, judged, empty, allowed)

    def images(self, network: nn.Module) -> Tensor:
        """What a network makes of it, (n, L, L)."""
        sources = {} if self.allowed is None else {"allowed": self.allowed}
        found: Tensor = network(self.noisy, self.transfer * self.shown, **sources).images[0]
        return found

    def error(self, network: nn.Module) -> Tensor:
        """Error on what is hidden of each particle, (n,), in units of the noise's variance."""
        return self.unseen(self.images(network))

    def unseen(self, images: Tensor) -> Tensor:
        """The same of images (n, L, L) that a network made of it."""
        return unseen_error(images, self.noisy[0], self.transfer[0], self.shown[0])

    def error_of_nothing(self) -> Tensor:
        """The same error of images of zeros, (n,): the power of what is hidden."""
        return self.unseen(torch.zeros_like(self.noisy[0]))


def split_set(
    noisy: NoisySet,
    rows: RowIndex,
    trained: TrainedNetwork,
    shown: Tensor,
    judged: NDArray[np.bool_] | None = None,
) -> SplitSet:
    """Particles of `rows` in a network's box b, of which coefficients (b, b // 2 + 1) are `shown`; judged by all, if
    None.

    Nothing is hidden, and so judged by, where the stack's own box has no coefficients.
    """
    box = trained.box
    images, transfer = network_input(noisy, rows, box)
    shown = (shown | ~known_band(noisy.box, box)).expand(len(rows), -1, -1)
    judging = torch.ones(len(rows), dtype=torch.bool) if judged is None else torch.as_tensor(judged)
    allowed = allowed_sources(noisy, rows) if trained.kind.joint else None
    seen = (images[None], explicit_transfer(transfer, images)[None], shown[None])
    return SplitSet(*seen, judging[None], torch.zeros_like(judging)[None], allowed)


class FinetuningTask:
    """Sets of a stack's own particles, in groups of those that look alike.

    Sets of training are of groups by whole images. What is hidden of a set to judge by had no part in its group:
    sources that were chosen by a particle's noise would foretell it.
    """

    def __init__(
        self,
        noisy: NoisySet,
        grouping: Grouping,
        trained: TrainedNetwork,
        settings: FinetuningSettings,
        seed: int,
    ) -> None:
        self.noisy, self.trained, self.settings, self.seed = noisy, trained, settings, seed
        self.grouping, self.groups = grouping, grouping(None)
        self.images_per_batch = min(settings.images, *(len(group) for group in self.groups))
        self.use = _uses(noisy.particles, settings.kept_out, generator_of(seed, _USE))
        if any((self.use == use).sum() < least for use, least in ((TRAINED_ON, 1), (CHOSEN_BY, 1), (JUDGED_BY, 2))):
            raise UsageError(
                f"{len(noisy)} particles are too few to fine-tune on: some must be kept to choose and to judge by"
            )

    @cached_property
    def source(self) -> str:
        """What is trained on, and from which weights: other particles, or other weights, are another training."""
        told = f"{len(self.noisy)} particles of {self.noisy.box} px ({self.noisy.digest()})"
        return f"{told} from a {self.trained.kind.name} ({self.trained.digest})"

    @property
    def description(self) -> str:
        """The same in a sentence for the log."""
        trained_on = int((self.use == TRAINED_ON).sum())
        return f"{trained_on:,} particles of the stack; {len(self.noisy) - trained_on:,} others to judge by"

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
        order = torch.randperm(groups, generator=generator_of(self.seed, _ORDER, 0, position // groups))
        group = self.groups[int(order[position % groups])]
        drawn = torch.randperm(len(group), generator=generator_of(self.seed, _ORDER, 1, position))
        rows = np.sort(group[drawn[: self.images_per_batch].numpy()])
        generator = generator_of(self.seed, _HIDDEN, position)
        shown = drawn_mask(self.trained.box, 1, self._share(generator), generator)[0]
        split = split_set(self.noisy, rows, self.trained, shown, self.use[rows] == TRAINED_ON)
        return self._with_noise(split, generator_of(self.seed, _NOISE, 0, position), self.settings.empty_sets).to(
            device
        )

    def _with_noise(self, split: SplitSet, generator: torch.Generator, empty_sets: float) -> SplitSet:
        """The set with pure noise in place of some of its images, or, with the odds `empty_sets`, of all."""
        settings, (_, count, box, _) = self.settings, split.noisy.shape
        whole = float(torch.rand(1, generator=generator)) < empty_sets
        empty = torch.rand((1, count), generator=generator) < (1.0 if whole else settings.empty)
        white = torch.randn((1, count, box, box), generator=generator)
        known = known_band(self.noisy.box, box)
        noise = torch.fft.irfft2(torch.fft.rfft2(white) * known, s=(box, box))
        noisy = torch.where(empty[..., None, None], noise, split.noisy)
        return replace(split, noisy=noisy, judged=split.judged & ~empty, empty=empty)

    def largest(self, position: int) -> int:
        """All are of one size."""
        return position

    def _share(self, generator: torch.Generator) -> float:
        """The share of coefficients that a batch is shown."""
        least, most = self.settings.least_shown, self.settings.shown
        return least + (most - least) * float(torch.rand(1, generator=generator))

    def loss(self, model: nn.Module, batch: SplitSet) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the error on what is hidden of the particles that are judged, and of what is made of noise."""
        judged, empty, images = batch.judged[0].float(), batch.empty[0].float(), batch.images(model)
        error = batch.unseen(images) * judged
        # Nothing is right at all frequencies, so that those count as well which a CTF hides from the detector.
        invented = images.float().square().mean(dim=(-2, -1)) * empty
        parts = {
            "unseen_error": error.sum() / judged.sum().clamp_min(1),
            "invented": invented.sum() / empty.sum().clamp_min(1),
        }
        return (error.sum() + invented.sum()) / (judged.sum() + empty.sum()).clamp_min(1), parts

    @cached_property
    def sets_to_choose_by(self) -> list[SplitSet]:
        """Fixed sets, by whose particles the best weights are chosen."""
        return self.sets_of(CHOSEN_BY, self.settings.judged_sets, 1)

    @cached_property
    def noise_to_choose_by(self) -> list[SplitSet]:
        """Some of the same sets with pure noise in place of all their images."""
        some = self.sets_to_choose_by[:_NOISE_SETS]
        return [self._with_noise(one, generator_of(self.seed, _NOISE, 1, n), 1.0) for n, one in enumerate(some)]

    def sets_to_judge_by(self) -> list[SplitSet]:
        """Sets whose particles neither trained the weights nor chose them."""
        return self.sets_of(JUDGED_BY, 4 * self.settings.judged_sets, _LEAST_PARTS)

    def sets_of(self, use: int, wanted: int, least_parts: int) -> list[SplitSet]:
        """About `wanted` sets that judge by particles for `use`, each in one of them at most, beside others of a group.

        Particles are shared out among `least_parts` parts of the coefficients to hide, or more where groups are few;
        for each part all are grouped by what is shown, and of each of some groups there is one set.
        """
        judging = np.flatnonzero(self.use == use)
        parts = min(max(least_parts, -(-wanted // len(self.groups))), len(judging))
        order = torch.randperm(len(judging), generator=generator_of(self.seed, _JUDGED, use, 0)).numpy()
        sets = []
        for number, members in enumerate(np.array_split(judging[order], parts), start=1):
            generator = generator_of(self.seed, _JUDGED, use, number)
            shown = drawn_mask(self.trained.box, 1, self.settings.shown, generator)[0]
            groups = self.grouping(shown)
            for group in (groups[place] for place in spread_rows(np.arange(len(groups)), -(-wanted // parts))):
                here = np.intersect1d(group, members)
                if len(here):
                    sets.append(self._judging(here, np.setdiff1d(group, judging), shown, generator))
        return sets

    def _judging(self, members: RowIndex, others: RowIndex, shown: Tensor, generator: torch.Generator) -> SplitSet:
        """The set that judges by `members` of a group, beside some of its `others`."""
        drawn = torch.randperm(len(others), generator=generator).numpy()
        rows = np.sort(np.concatenate([members, others[drawn]])[: self.images_per_batch])
        return split_set(self.noisy, rows, self.trained, shown, np.isin(rows, members))

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The mean error on what is hidden of particles that weights are chosen by, and the power made of pure noise.

        "error", by which they are chosen, is the sum: to put a particle into any image lowers the first alone.
        """
        hidden = float(torch.cat(judged_errors(model, self.sets_to_choose_by, device)).mean())
        if not self.settings.empty and not self.settings.empty_sets:
            return {"error": hidden}
        invented = [one.to(device).images(model).float().square().mean() for one in self.noise_to_choose_by]
        made = float(torch.stack(invented).mean())
        return {"error": hidden + made, "unseen_error": hidden, "invented": made}


def _uses(particles: ParticleSet, kept_out: float, generator: torch.Generator) -> NDArray[np.int64]:
    """What each particle is for, (n,); those of one micrograph for the same, where there are enough micrographs."""
    units = np.arange(len(particles))
    if particles.micrograph is not None:
        names, of_micrograph = np.unique(particles.micrograph, return_inverse=True)
        units = of_micrograph if len(names) >= _MICROGRAPHS else units
    drawn = torch.rand(int(units.max()) + 1, generator=generator).numpy()[units]
    return np.where(drawn < kept_out / 2, CHOSEN_BY, np.where(drawn < kept_out, JUDGED_BY, TRAINED_ON))


@torch.no_grad()
def judged_errors(model: nn.Module, sets: Sequence[SplitSet], device: torch.device) -> list[Tensor]:
    """Errors of the particles that are judged by, set by set, on the CPU."""
    return [one.to(device).error(model)[one.judged[0].to(device)].cpu() for one in sets]
