"""The task `diffusion`: a network learns what is left of clean particles once the joint denoiser has been at them."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from clarice.core.errors import UsageError
from clarice.core.seeds import generator_of
from clarice.denoise.diffusion import FIRST
from clarice.denoise.diffusion_network import DiffusionNetwork
from clarice.denoise.networks import box_of, network_kind
from clarice.training.denoising_loss import relative_error
from clarice.training.diffusion_loss import diffusion_loss
from clarice.training.estimated_images import (
    EstimatedImages,
    FirstNetwork,
    insist_on_sets,
    joined,
    known_images,
    known_in_parts,
)
from clarice.training.simulated_sets import OUTPUT_OF, JudgedOn, SimulatedSets, SimulatedSettings
from clarice.training.start import take_over
from clarice.training.task import task
from clarice.training.validation import SetKind

# Images of validation sets that go through a network at once.
_IMAGES_AT_ONCE = 128
KINDS = (
    SetKind("single-snr0.05", images=1, views=0, snr=0.05, sets=16),
    SetKind("general-64-snr0.05", images=64, views=8, snr=0.05),
    SetKind("general-64-snr0.05-ctf", images=64, views=8, snr=0.05, ctf=True, max_shift_px=3.0),
    SetKind("general-64-snr0.05-carbon", images=64, views=8, snr=0.05, structural={"carbon": 1.0, "neighbours": 1.0}),
    SetKind("empty-64-snr0.05", images=64, views=8, snr=0.05, empty=True),
)


class DiffusionSettings(SimulatedSettings):
    """The keys of a recipe for diffusion.

    `first`: weights of the joint denoiser whose images the residuals are taken from; those that `denoise` uses if None.
    `repeats`: how often an image comes, each time with noise of its own: the joint denoiser takes longer over an image
    than a step does. `mixed`: of so many simulated batches, the last ones, the images of a step are drawn: those of one
    show few molecules. `start`: exported weights of the same network to start from.
    """

    validation: JudgedOn = JudgedOn(kinds=KINDS)
    first: Path | None = None
    repeats: int = Field(default=4, ge=1)
    mixed: int = Field(default=16, ge=1)
    start: Path | None = None


class DiffusionTask(SimulatedSets):
    """Simulated sets and what is known of them in, residuals as the target."""

    def __init__(self, settings: DiffusionSettings, seed: int) -> None:
        self.settings = settings
        self.kind = network_kind(settings.network.name)
        if self.kind.use != "sampling":
            raise UsageError(f"network {self.kind.name} does not sample: choose diffusion, or the task denoiser")
        super().__init__(settings, seed, box_of(settings.network.changes))
        jointly = self._made().size.estimate == "joint"
        self.first = FirstNetwork(settings.first, self.box) if jointly else None
        if self.first is None:
            insist_on_sets(self.sets.sizes, self.judged_on.kinds)
        self._recent: dict[tuple[int, int, int], EstimatedImages] = {}
        self._fixed: dict[str, EstimatedImages] | None = None

    def _made(self) -> DiffusionNetwork:
        network = self.kind.build(self.settings.network.changes)
        assert isinstance(network, DiffusionNetwork)
        return network

    def model(self) -> nn.Module:
        """A new network of the recipe's size, with random weights or those of `start`.

        Raises InputError when those are of another network.
        """
        network = self._made()
        if self.settings.start is not None:
            take_over(network, self.settings.start)
        return network

    @property
    def trained_on(self) -> dict[str, str]:
        """Digests of the weights on whose output the network is trained, by network."""
        return {} if self.first is None else {FIRST: self.first.digest}

    @property
    def source(self) -> str:
        """Which structures are trained on, and the images of which weights."""
        return super().source if self.first is None else f"{super().source}{OUTPUT_OF}{FIRST} {self.first.digest}"

    @property
    def description(self) -> str:
        """The same in a sentence for the log."""
        seen = "" if self.first is None else f"; residuals from the images of {self.first.path}"
        return super().description + seen

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> EstimatedImages:
        """Share `rank` of `world` of batch `position`: images drawn from the last simulated batches."""
        last = position // self.settings.repeats
        wanted = [(number, rank, world) for number in range(max(0, last - self.settings.mixed + 1), last + 1)]
        self._recent = {key: self._recent[key] for key in wanted if key in self._recent}
        for key in wanted:
            if key not in self._recent:
                self._recent[key] = known_images(self.simulated(*key, device), self.first)
        pool = [self._recent[key] for key in wanted]
        images = self.images_per_batch // world
        drawn = torch.randperm(len(pool) * images, generator=generator_of(self.sets.seed, position, rank))[:images]
        return joined([part.rows(drawn[drawn // images == k].to(device) % images) for k, part in enumerate(pool)])

    def largest(self, position: int) -> int:
        """The first batch of the largest sets from `position` on, or just before."""
        return super().largest(position // self.settings.repeats) * self.settings.repeats

    def loss(self, model: nn.Module, batch: EstimatedImages) -> tuple[Tensor, dict[str, Tensor]]:
        """Half the error by coefficients, half that of the images; both beside it."""
        network = model
        assert isinstance(network, DiffusionNetwork)
        device = batch.noisy.device
        remaining = network.size.noise_schedule.drawn(len(batch.noisy), device)
        by_coefficient, in_images = diffusion_loss(network, batch, remaining, torch.randn_like(batch.clean))
        parts = {"by_coefficient": by_coefficient.mean(), "in_images": in_images.mean()}
        return (parts["by_coefficient"] + parts["in_images"]) / 2, parts

    def fixed_images(self, device: torch.device) -> dict[str, EstimatedImages]:
        """The images of validation structures by kind, and what is known of them; found out on `device`, once."""
        if self._fixed is None:
            self._fixed = {
                name: known_in_parts(sets, self.first, device, _IMAGES_AT_ONCE)
                for name, sets in self.fixed_sets.items()
            }
        return self._fixed

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The error in the images on each kind of sets, at fixed draws; "error" is the mean over those with particles.

        With the target v, "mse-" and the kind: the relative error of the images expected (not sampled), and before.
        """
        assert isinstance(model, DiffusionNetwork)
        figures: dict[str, float] = {}
        expected: dict[str, float] = {}
        for name, images in self.fixed_images(device).items():
            errors, means = [], []
            for start in range(0, len(images.noisy), _IMAGES_AT_ONCE):
                part = images.part(slice(start, start + _IMAGES_AT_ONCE)).to(device)
                generator = torch.Generator(device).manual_seed(start)
                remaining = model.size.noise_schedule.drawn(len(part.noisy), device, generator)
                noise = torch.randn(part.clean.shape, generator=generator, device=device)
                errors.append(diffusion_loss(model, part, remaining, noise)[1].cpu())
                if model.size.target == "v":
                    means.append(expected_images(model, part, noise).cpu())
            figures[name] = float(torch.cat(errors).mean())
            if means:
                sets = self.fixed_sets[name]
                for key, found in (("mse", torch.cat(means)), ("mse-before", images.mean)):
                    error = relative_error(found.view(sets.clean.shape), sets.clean, sets.power)
                    expected[f"{key}-{name}"] = float(error.mean())
        return {"error": self.mean_over_shown(figures), **figures, **expected}


def expected_images(network: DiffusionNetwork, images: EstimatedImages, noise: Tensor) -> Tensor:
    """The mean (n, L, L) that a network trained on v expects, from `noise` (n, L, L) alone, by one evaluation."""
    least = network.size.noise_schedule.remaining()[-1:].expand(len(noise)).to(noise.device)
    cleaned, _ = network.cleaned(noise, least, images.condition)
    # The little that is left of the residual at the end of the schedule counts as noise.
    return images.estimate.images(cleaned - least.sqrt().float()[:, None, None] * noise)


@task("diffusion", DiffusionSettings)
def diffusion_task(settings: DiffusionSettings, seed: int) -> DiffusionTask:
    """The task of a recipe's settings and seed."""
    return DiffusionTask(settings, seed)
