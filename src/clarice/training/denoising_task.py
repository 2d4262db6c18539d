"""The task `denoiser`: a network learns to denoise sets of simulated particles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from clarice.core.errors import UsageError
from clarice.denoise.networks import box_of, network_kind
from clarice.denoise.polar_transformer import DenoisedRings, PolarTransformer
from clarice.training.attention_guide import divergence, fourier_rings, guide
from clarice.training.batches import EndlessSets, SetBatch
from clarice.training.denoising_loss import foretelling_loss, relative_error, seen_error, shell_error, sketch_error
from clarice.training.set_draws import SetSettings, largest_batch
from clarice.training.specimen_pool import SpecimenPool
from clarice.training.specimens import SpecimenSettings
from clarice.training.start import take_over
from clarice.training.structures import MOLECULES_ALONE, data_folder, training_structures
from clarice.training.task import task
from clarice.training.validation import SMALL_KINDS, SetKind, ValidationSettings, validation_sets

# Images of validation sets that go through a network at once.
_IMAGES_AT_ONCE = 256


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSettings(BaseModel):
    """Which network, and how its size differs from the usual one."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def changes(self) -> dict[str, Any]:
        """The keys beside the name."""
        return dict(self.model_extra or {})


class LossSettings(_Part):
    """Weights, beside the images' relative error: of the foretold error, of the sketches by which blocks of attention
    go, and of the guidance of attention, which acts on the last `guided_blocks` blocks.
    """

    foretelling: float = Field(default=0.01, ge=0)
    sketches: float = Field(default=0.3, ge=0)
    guidance: float = Field(default=0.01, ge=0)
    guided_blocks: int = Field(default=4, ge=1)


class PoolSettings(_Part):
    """Specimens held at a time, how many batches pass before one is replaced, and the share of the box they fill."""

    slots: int = Field(default=48, ge=1)
    replace_every: int = Field(default=4, ge=1)
    workers: int = Field(default=1, ge=1)
    least_fill: float = 0.5
    largest_fill: float = 0.75


class JudgedOn(_Part):
    """The fixed sets that training is judged on."""

    structures: int = Field(default=3, ge=1)
    kinds: Sequence[SetKind] = SMALL_KINDS


class DenoiserSettings(_Part):
    """The keys of a recipe for a denoiser.

    `data`: folder of structures, the environment's CLARICE_DATA if None. `cache`: where validation sets are kept.
    `molecules`: procedural molecules alone, whatever the environment names. `start`: exported weights of the same
    network to start from, instead of random ones; with `start_blocks`, of one whose blocks of attention number
    otherwise: which of them each of ours begins as.
    """

    network: NetworkSettings
    sets: dict[str, Any] = Field(default_factory=dict)
    specimens: PoolSettings = PoolSettings()
    loss: LossSettings = LossSettings()
    validation: JudgedOn = JudgedOn()
    data: Path | None = None
    molecules: bool = False
    cache: Path | None = None
    start: Path | None = None
    start_blocks: Sequence[int] | None = None


class DenoisingTask:
    """Simulated sets in, their noise-free projections as the target."""

    def __init__(self, settings: DenoiserSettings, seed: int) -> None:
        self.settings = settings
        self.kind = network_kind(settings.network.name)
        self.box = box_of(settings.network.changes)
        try:
            self.sets = SetSettings(seed=seed, **settings.sets)
        except TypeError as error:
            raise UsageError(f"sets: {error}") from error
        self.images_per_batch = self.sets.images_per_batch
        if settings.start_blocks is not None and settings.start is None:
            raise UsageError("start_blocks names blocks of no weights: give start, or drop it")
        if settings.molecules and settings.data is not None:
            raise UsageError(f"data {settings.data} and molecules exclude each other: drop one of them")
        self.data = None if settings.molecules else data_folder(settings.data)
        judged = settings.validation
        self.judged_on = ValidationSettings(box=self.box, structures=judged.structures, kinds=judged.kinds)
        self._endless: EndlessSets | None = None
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
        if self._endless is None:
            self._endless = EndlessSets(self.sets, self.specimens, device)
        return self._endless.batch(position, rank, world)

    def largest(self, position: int) -> int:
        """The first batch of the largest sets, for which attention takes most memory, from `position` on."""
        return largest_batch(self.sets, position)

    @cached_property
    def specimens(self) -> SpecimenPool:
        """What is shown in the sets. Raises InputError when there are no structures where they are said to be."""
        pool = self.settings.specimens
        return SpecimenPool(
            SpecimenSettings(self.sets.seed, self.box, pool.least_fill, pool.largest_fill),
            training_structures(self.data),
            slots=pool.slots,
            replace_every=pool.replace_every,
            workers=pool.workers,
        )

    @property
    def source(self) -> str:
        """Which structures are trained on, wherever they lie."""
        structures = self.specimens.structures
        return MOLECULES_ALONE if structures is None else structures.identity

    @property
    def description(self) -> str:
        """What specimens are made from, in a sentence for the log."""
        return self.specimens.description

    def loss(self, model: nn.Module, batch: SetBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Relative error of the images, and the weighted rest; named parts beside it."""
        weights = self.settings.loss
        found: DenoisedRings | None = None
        if isinstance(model, PolarTransformer) and model.size.attention_blocks > 0:
            found = model.denoise_rings(model.measure(batch.noisy, batch.transfer))
            estimate = model.estimate_of(found)
        else:
            estimate = model(batch.noisy, batch.transfer)
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

    @cached_property
    def fixed_sets(self) -> dict[str, SetBatch]:
        """The sets of validation structures by kind."""
        return validation_sets(self.judged_on, self.data, self.settings.cache)

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
        shown = [figures[kind.name] for kind in self.judged_on.kinds if not kind.empty]
        return {"error": sum(shown) / len(shown), **figures}


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
