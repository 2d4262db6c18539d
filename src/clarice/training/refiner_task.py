"""The task `refiner`: a light network learns to correct what a few steps of sampling give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from clarice.core.errors import InputError, UsageError
from clarice.core.seeds import seeds_of
from clarice.denoise.diffusion import FIRST, NAME
from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.denoise.diffusion_sampling import Draws, SamplingSettings, sample_residuals
from clarice.denoise.networks import box_of, network_kind
from clarice.denoise.refiner import Refiner
from clarice.denoise.trained import load_network, load_trained, weights_digest
from clarice.geometry.angular import fast_autocast
from clarice.io.weights import weights_path
from clarice.training.batches import SetBatch
from clarice.training.denoising_loss import relative_error
from clarice.training.diffusion_task import KINDS
from clarice.training.estimated_images import EstimatedImages, FirstNetwork, insist_on_sets, joined, known_images
from clarice.training.network_copies import NetworkCopies
from clarice.training.simulated_sets import OUTPUT_OF, JudgedOn, SimulatedSets, SimulatedSettings
from clarice.training.task import task

# Images of validation sets that go through a network at once.
_IMAGES_AT_ONCE = 128


class RefinerSettings(SimulatedSettings):
    """The keys of a recipe for a refiner.

    `sampler`: weights of the diffusion network whose samples are refined, and `first`: those of the joint denoiser
    before it; the ones that `denoise` uses if None. Each batch is sampled by one of `steps` and of `samples`, drawn
    evenly.
    """

    validation: JudgedOn = JudgedOn(kinds=KINDS)
    sampler: Path | None = None
    first: Path | None = None
    steps: Sequence[int] = Field(default=(1, 2, 5), min_length=1)
    samples: Sequence[int] = Field(default=(1, 2, 4), min_length=1)


@dataclass(frozen=True)
class SampledImages:
    """Images, what was known of them, and the mean of a few samples' residuals (n, L, L)."""

    images: EstimatedImages
    residual: Tensor


class RefinerTask(SimulatedSets):
    """Samples of simulated particles in, their residuals without error as the target."""

    def __init__(self, settings: RefinerSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.kind = network_kind(settings.network.name)
        if self.kind.use != "refining":
            raise UsageError(f"network {self.kind.name} does not refine: choose refiner, or another task")
        super().__init__(settings, seed, box_of(settings.network.changes))
        self.kind.build(settings.network.changes)
        self.sampler_path = settings.sampler or weights_path(NAME)
        self._fixed: dict[str, SampledImages] | None = None
        for name in ("steps", "samples"):
            for number in getattr(settings, name):
                SamplingSettings(**{name: number})

    def model(self) -> nn.Module:
        """A new network of the recipe's size."""
        return self.kind.build(self.settings.network.changes)

    @cached_property
    def sampler(self) -> NetworkCopies[DiffusionNetwork]:
        """The network that samples. Raises InputError when the weights are those of another, or for another box."""
        return NetworkCopies(load_network(self.sampler_path, DiffusionNetwork, NAME, self.box, "sampler"))

    @cached_property
    def first(self) -> FirstNetwork | None:
        """The joint denoiser before the sampler, None where it goes without.

        Raises InputError when the sampler was trained on the images of another.
        """
        if self.sampler.network.size.estimate != "joint":
            insist_on_sets(self.sets.sizes, self.judged_on.kinds)
            return None
        first = FirstNetwork(self.settings.first, self.box)
        source = load_trained(self.sampler_path).card.get("source")
        if source is not None and f"{FIRST} {first.digest}" not in source:
            raise InputError(
                f"{self.sampler_path} was trained on {source}, but first is {first.path} ({first.digest}): give those "
                "weights as first"
            )
        return first

    @property
    def trained_on(self) -> dict[str, str]:
        """Digests of the weights on whose output the network is trained, by network."""
        before = {} if self.first is None else {FIRST: self.first.digest}
        return {**before, NAME: weights_digest(self.sampler_path)}

    @property
    def source(self) -> str:
        """Which structures are trained on, and the samples of which weights."""
        networks = " and ".join(f"{name} {digest}" for name, digest in self.trained_on.items())
        return f"{super().source}{OUTPUT_OF}{networks}"

    @property
    def description(self) -> str:
        """The same in a sentence for the log."""
        return f"{super().description}; samples by {self.sampler_path}"

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> SampledImages:
        """Share `rank` of `world` of batch `position`, simulated and sampled on `device`."""
        draws = np.random.default_rng([self.seed, position])
        steps, samples = (int(draws.choice(values)) for values in (self.settings.steps, self.settings.samples))
        seed = int(draws.integers(2**31)) + rank
        return self.sampled(self.simulated(position, rank, world, device), steps, samples, seed)

    @torch.no_grad()
    def sampled(self, sets: SetBatch, steps: int, samples: int, seed: int) -> SampledImages:
        """All images of the sets, and the mean of their samples."""
        device = sets.noisy.device
        images = known_images(sets, self.first)
        network, condition = self.sampler.on(device), images.condition
        total = torch.zeros_like(images.clean)
        with fast_autocast(device):
            for number in range(samples):
                draws = Draws(seeds_of(seed, number, count=len(total)), self.box)
                total += sample_residuals(network, condition, SamplingSettings(steps, 1), draws)
        return SampledImages(images, total / samples)

    def loss(self, model: nn.Module, batch: SampledImages) -> tuple[Tensor, dict[str, Tensor]]:
        """Half the error of the residuals, half that of the images, over what the samples' mean has; both beside it."""
        assert isinstance(model, Refiner)
        images, target = batch.images, batch.images.estimate.residual(batch.images.clean)
        refined = model(batch.residual, images.condition)
        parts = {
            "by_coefficient": _over(refined - target, batch.residual - target),
            "in_images": _over(*(images.estimate.images(r) - images.clean for r in (refined, batch.residual))),
        }
        return (parts["by_coefficient"] + parts["in_images"]) / 2, parts

    def fixed_samples(self, device: torch.device) -> dict[str, SampledImages]:
        """The images of validation structures by kind, sampled once on `device` by the last of steps and samples."""
        if self._fixed is None:
            self._fixed = {name: self._sampled_in_parts(sets, device) for name, sets in self.fixed_sets.items()}
        return self._fixed

    def _sampled_in_parts(self, sets: SetBatch, device: torch.device) -> SampledImages:
        steps, samples, cpu = self.settings.steps[-1], self.settings.samples[-1], torch.device("cpu")
        at_once = max(1, _IMAGES_AT_ONCE // sets.noisy.shape[1])
        images, residuals = [], []
        for start in range(0, len(sets.noisy), at_once):
            found = self.sampled(sets.sets(slice(start, start + at_once)).to(device), steps, samples, start)
            images.append(found.images.to(cpu))
            residuals.append(found.residual.cpu())
        return SampledImages(joined(images), torch.cat(residuals))

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Relative error of the images on each kind of sets; "error" is the mean over those with particles.

        "before-" and the kind: that of the samples' mean.
        """
        assert isinstance(model, Refiner)
        figures: dict[str, float] = {}
        before: dict[str, float] = {}
        for name, sampled in self.fixed_samples(device).items():
            sets, images = self.fixed_sets[name], sampled.images
            found = []
            for start in range(0, len(sampled.residual), _IMAGES_AT_ONCE):
                rows = slice(start, start + _IMAGES_AT_ONCE)
                part = images.part(rows).to(device)
                refined = model(sampled.residual[rows].to(device), part.condition)
                found.append(part.estimate.images(refined).cpu())
            for kept, result in ((figures, torch.cat(found)), (before, images.estimate.images(sampled.residual))):
                error = relative_error(result.view(sets.clean.shape), sets.clean, sets.power)
                kept[name] = float(error.mean())
        shown = {f"before-{name}": error for name, error in before.items()}
        return {"error": self.mean_over_shown(figures), **figures, **shown}


def _over(wrong: Tensor, before: Tensor) -> Tensor:
    return wrong.square().sum() / before.square().sum().clamp_min(torch.finfo(torch.float32).tiny)


@task("refiner", RefinerSettings)
def refiner_task(settings: RefinerSettings, seed: int) -> RefinerTask:
    """The task of a recipe's settings and seed."""
    return RefinerTask(settings, seed)
