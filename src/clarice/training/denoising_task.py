"""The task `denoiser`: a network learns to denoise sets of simulated particles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from clarice.core.errors import UsageError
from clarice.denoise.estimate import Estimate
from clarice.denoise.networks import box_of, network_kind
from clarice.denoise.polar_transformer import DenoisedRings, PolarTransformer
from clarice.training.attention_guide import divergence, fourier_rings, guide
from clarice.training.batches import SetBatch
from clarice.training.denoising_loss import foretelling_loss, relative_error, seen_error, shell_error, sketch_error
from clarice.training.simulated_sets import SettingsPart, SimulatedSets, SimulatedSettings
from clarice.training.start import take_over
from clarice.training.task import task

# Images of validation sets that go through a network at once.
_IMAGES_AT_ONCE = 256


class LossSettings(SettingsPart):
    """Weights, beside the images' relative error: of the foretold error, of the sketches by which blocks of attention
    go, and of the guidance of attention, which acts on the last `guided_blocks` blocks.
    """

    foretelling: float = Field(default=0.01, ge=0)
    sketches: float = Field(default=0.3, ge=0)
    guidance: float = Field(default=0.01, ge=0)
    guided_blocks: int = Field(default=4, ge=1)


class DenoiserSettings(SimulatedSettings):
    """The keys of a recipe for a denoiser.

    `start`: exported weights of the same network to start from, instead of random ones; with `start_blocks`, of one
    whose blocks of attention number otherwise: which of them each of ours begins as.
    """

    loss: LossSettings = LossSettings()
    start: Path | None = None
    start_blocks: Sequence[int] | None = None


class DenoisingTask(SimulatedSets):
    """Simulated sets in, their noise-free projections as the target."""

    def __init__(self, settings: DenoiserSettings, seed: int) -> None:
        self.settings = settings
        self.kind = network_kind(settings.network.name)
        if not self.kind.denoises:
            raise UsageError(f"network {self.kind.name} is none that denoises: choose another, or the task diffusion")
        super().__init__(settings, seed, box_of(settings.network.changes))
        if settings.start_blocks is not None and settings.start is None:
            raise UsageError("start_blocks names blocks of no weights: give start, or drop it")
        self.kind.build(settings.network.changes)  # a size that cannot be is refused before anything is simulated

    def model(self) -> nn.Module:
        """A new network of the recipe's size, with random weights or those of `start`.

        Raises InputError when those are of another network.
        """
        network = self.kind.build(self.settings.network.changes)
        if self.settings.start is not None:
            take_over(network, self.settings.start, self.settings.start_blocks)
        return network

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> SetBatch:
        """Share `rank` of `world` of batch `position`, simulated on `device`."""
        return self.simulated(position, rank, world, device)

    def loss(self, model: nn.Module, batch: SetBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Relative error of the images, and the weighted rest; named parts beside it."""
        found: DenoisedRings | None = None
        if isinstance(model, PolarTransformer) and model.size.attention_blocks > 0:
            found = model.denoise_rings(model.measure(batch.noisy, batch.transfer))
            estimate = model.estimate_of(found)
        else:
            estimate = model(batch.noisy, batch.transfer)
        return denoising_loss(model, estimate, found, batch, self.settings.loss)

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Relative error on each kind of sets; "error" is the mean over those with particles in them."""
        figures: dict[str, float] = {}
        for name, stack in self.fixed_sets.items():
            at_once = max(1, _IMAGES_AT_ONCE // stack.noisy.shape[1])
            errors = []
            for start in range(0, len(stack.noisy), at_once):
                part = stack.sets(slice(start, start + at_once)).to(device)
                errors.append(relative_error(model(part.noisy, part.transfer).images, part.clean, part.power).cpu())
            figures[name] = float(torch.cat(errors).mean())
        return {"error": self.mean_over_shown(figures), **figures}


def denoising_loss(
    model: nn.Module, estimate: Estimate, found: DenoisedRings | None, batch: SetBatch, weights: LossSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of images, and its parts by name; `found` is what a polar transformer found out on the way."""
    error = relative_error(estimate.images, batch.clean, batch.power).mean()
    parts, total = {"relative_mse": error}, error
    if batch.transfer is not None:
        seen = seen_error(estimate.images, batch.clean, batch.transfer, batch.snr).mean()
        total = (error + seen) / 2
    if estimate.log_error is not None and weights.foretelling > 0:
        actual = shell_error(estimate.images.detach(), batch.clean)
        parts["foretelling"] = foretelling_loss(estimate.log_error, actual)
        total = total + weights.foretelling * parts["foretelling"]
    if found is not None and isinstance(model, PolarTransformer):
        with torch.autocast(batch.noisy.device.type, enabled=False):
            parts |= _by_the_way(model, found, batch, weights.guided_blocks)
        total = total + weights.sketches * parts["sketches"] + weights.guidance * parts["divergence"]
    return total, parts


def _by_the_way(model: PolarTransformer, found: DenoisedRings, batch: SetBatch, guided: int) -> dict[str, Tensor]:
    """What blocks of attention are judged by: their sketches' error, and the divergence from the guide."""
    rings = fourier_rings(model, batch.clean)
    errors = [sketch_error(sketch, rings, model.ring_area, batch.power).mean() for sketch in found.sketches]
    parts = {"sketches": torch.stack(errors).mean(), "divergence": errors[0].new_zeros(())}
    if batch.noisy.shape[1] > 1:
        parts["divergence"] = divergence(found.attended[-guided:], guide(model, rings), batch.clean)
    return parts


@task("denoiser", DenoiserSettings)
def denoising_task(settings: DenoiserSettings, seed: int) -> DenoisingTask:
    """The task of a recipe's settings and seed."""
    return DenoisingTask(settings, seed)
