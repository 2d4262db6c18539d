"""The task `joint`: denoiser and network of structures learn together, each from what the other makes of the same sets.

Every image of a set has a view of its own, from everywhere, so that moments of the denoised images are correlations of
the structure. The loss is that of the denoiser and, `structure_weight` times, that of the structures. Both networks
start from weights that they were trained to apart. With `trained` "structures" the denoiser stays as it is: what is
then learned is what its images' moments mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clarice.abinitio.structure_space import structure_space
from clarice.abinitio.trained_moment_network import NAME as STRUCTURES_NAME
from clarice.abinitio.trained_moment_network import load_moment_network
from clarice.core.errors import UsageError
from clarice.core.seeds import generator_of, seeds_of
from clarice.denoise.networks import box_of, network_kind
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.registry import DEFAULT_METHOD
from clarice.denoise.trained import load_network, weights_digest
from clarice.io.weights import weights_path
from clarice.training.batches import SetBatch
from clarice.training.denoising_loss import relative_error
from clarice.training.denoising_task import LossSettings, denoising_loss
from clarice.training.joint_network import JointNetwork
from clarice.training.simulated_sets import JudgedOn, PoolSettings, SimulatedSets, SimulatedSettings
from clarice.training.structure_noise import NoiseLevels, insist_on_order, level_weight, structure_error
from clarice.training.structure_store import StructureStore, specimen_settings
from clarice.training.structure_task import validation_structures
from clarice.training.structures import training_structures
from clarice.training.task import task
from clarice.training.validation import SetKind

JOINT = "joint"
KINDS = (
    SetKind("everywhere-256-snr0.05", images=256, views=0, snr=0.05, sets=2),
    SetKind("everywhere-256-snr0.2", images=256, views=0, snr=0.2, sets=2),
)
_FILL = structure_space().learning_fill
# Levels of noise on the structures that are validated on, and draws of each.
_VALIDATION_LEVELS, _VALIDATION_DRAWS = (0.3, 1.0, 3.0), 4
# What sets must be like for their moments to be correlations of the structure.
CENTRED_FROM_EVERYWHERE = {
    "one_view_share": 0.0,
    "own_views_share": 1.0,
    "shift_share": 0.0,
    "empty_set_share": 0.0,
    "some_empty_share": 0.0,
}


class JointSettings(SimulatedSettings, NoiseLevels):
    """The keys of a recipe for both networks.

    `denoiser` and `structures`: the weights to start from, those that are shipped if None. `levels` noisy structures
    stand for each set, at levels of noise that are log-normal.
    """

    validation: JudgedOn = JudgedOn(kinds=KINDS)
    specimens: PoolSettings = PoolSettings(least_fill=_FILL, largest_fill=_FILL)
    loss: LossSettings = LossSettings()
    denoiser: Path | None = None
    structures: Path | None = None
    trained: Literal["both", "structures"] = "both"
    structure_weight: float = Field(default=1.0, gt=0)
    levels: int = Field(default=16, ge=1)


@dataclass(frozen=True)
class JointBatch:
    """Sets of images, and their B structures in scaled coefficients: `clean` (B, size), and `noisy` (B, T, size) under
    noise of `level` (B, T)."""

    sets: SetBatch
    clean: Tensor
    noisy: Tensor
    level: Tensor

    def to(self, device: torch.device) -> JointBatch:
        """The same on another device."""
        return JointBatch(self.sets.to(device), *(t.to(device) for t in (self.clean, self.noisy, self.level)))


class JointTask(SimulatedSets):
    """Sets of simulated particles in; their projections and their structures as targets."""

    def __init__(self, settings: JointSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        if settings.specimens.least_fill != _FILL or settings.specimens.largest_fill != _FILL:
            raise UsageError(f"specimens: least_fill and largest_fill must be {_FILL:g}, of which structures are known")
        clash = [name for name, value in CENTRED_FROM_EVERYWHERE.items() if settings.sets.get(name, value) != value]
        if clash:
            raise UsageError(
                f"sets: {clash[0]} {settings.sets[clash[0]]} must be {CENTRED_FROM_EVERYWHERE[clash[0]]:g}: only of "
                "centred particles seen from everywhere are moments correlations"
            )
        box = box_of(settings.network.changes)
        super().__init__(settings.model_copy(update={"sets": {**settings.sets, **CENTRED_FROM_EVERYWHERE}}), seed, box)
        if min(self.sets.sizes) < 2:
            raise UsageError("sets: sizes of 1 have no moments: take sets of many images")
        insist_on_order("least_level", settings.least_level, "largest_level", settings.largest_level)
        if any(kind.empty or kind.images < 2 for kind in settings.validation.kinds):
            raise UsageError("validation: kinds must show particles, several a set: one image has no moments")
        if any(kind.ctf or kind.max_shift_px > 0 or kind.views for kind in settings.validation.kinds):
            raise UsageError("validation: kinds must be without CTF and shifts, every image its own view (views 0)")
        self.denoiser_path = settings.denoiser or weights_path(DEFAULT_METHOD)
        self.structures_path = settings.structures or weights_path(STRUCTURES_NAME)

    def model(self) -> nn.Module:
        """Both networks with the weights to start from. Raises InputError when those are of others."""
        denoiser = load_network(self.denoiser_path, PolarTransformer, DEFAULT_METHOD, self.box, "denoiser")
        wanted = self.settings.network
        if denoiser.size != getattr(network_kind(wanted.name).build(wanted.changes), "size", None):
            raise UsageError(
                f"{self.denoiser_path} holds a network of another size than the recipe's: give its own as network"
            )
        denoiser.requires_grad_(self.settings.trained == "both")
        return JointNetwork(denoiser, load_moment_network(self.structures_path), _FILL * self.box)

    @property
    def source(self) -> str:
        """Which structures are trained on, and from which weights."""
        begun = f"{weights_digest(self.denoiser_path)} and {weights_digest(self.structures_path)}"
        return f"{super().source} from weights {begun}"

    @cached_property
    def store(self) -> StructureStore:
        """The structures that the sets show, as coefficients: specimens of the same seed, numbers and fill."""
        same = specimen_settings(self.sets.seed, (1.0, 1.0))
        return StructureStore(same, training_structures(self.data), self._cache, self.settings.specimens.workers)

    @cached_property
    def _spread(self) -> Tensor:
        network = load_moment_network(self.structures_path)
        return network.spread.clone()

    @cached_property
    def _judged_structures(self) -> Tensor:
        """Those of the validation sets, in scaled coefficients."""
        return validation_structures(self.settings.validation.structures, self.data) / self._spread

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> JointBatch:
        """Share `rank` of `world` of batch `position`, simulated on `device`."""
        sets = self.simulated(position, rank, world, device)
        numbers = self.specimens.numbers(position)
        shown = numbers[self.endless(device).draws(position, rank, world).slot]
        structures = self.store.first(int(numbers.max()) + 1, ahead=True)[torch.from_numpy(shown)]
        generator = generator_of(*seeds_of(self.seed, position, count=1), rank)
        level = self.settings.drawn((len(shown), self.settings.levels), generator)
        clean = structure_space().scaled(structures) / self._spread
        return JointBatch(sets, clean, _under_noise(clean, level, generator), level).to(device)

    def loss(self, model: nn.Module, batch: JointBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """That of the images, and of the structures the squared error over their own, all levels counting alike."""
        assert isinstance(model, JointNetwork)
        sets, both = batch.sets, self.settings.trained == "both"
        with torch.set_grad_enabled(both and torch.is_grad_enabled()):
            found = model.denoised(sets.noisy, sets.transfer)
            estimate = model.denoiser.estimate_of(found)
            total, parts = denoising_loss(model.denoiser, estimate, found, sets, self.settings.loss)
        errors, plain = [], []
        for known, noisy, level, clean in zip(
            model.known_of(estimate.images), batch.noisy, batch.level, batch.clean, strict=True
        ):
            error = structure_error(model.expected(known, noisy, level), clean)
            errors.append((level_weight(level) * error).mean())
            plain.append(error.detach().mean())
        parts["structures"], parts["structure_error"] = torch.stack(errors).mean(), torch.stack(plain).mean()
        return (total if both else 0.0) + self.settings.structure_weight * parts["structures"], parts

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Relative error of structures by kind of sets and level of noise, and of images by kind; "error" is the mean
        of the former."""
        assert isinstance(model, JointNetwork)
        structures: dict[str, float] = {}
        images: dict[str, float] = {}
        clean = self._judged_structures
        for name, sets in self.fixed_sets.items():
            each = clean.repeat_interleave(len(sets.noisy) // len(clean), dim=0)
            found = torch.cat([
                model.denoiser(sets.noisy[row : row + 1].to(device), None).images for row in range(len(sets.noisy))
            ])  # fmt: skip
            errors = relative_error(found, sets.clean.to(device), sets.power.to(device))
            images[f"images-{name}"] = float(errors.mean())
            known = model.known_of(found)
            for level in _VALIDATION_LEVELS:
                levels = torch.full((len(each), _VALIDATION_DRAWS), level)
                noisy = _under_noise(each, levels, generator_of(1))
                made = (known, *(values.to(device) for values in (noisy, levels, each)))
                wrong = [structure_error(model.expected(*given), truth) for *given, truth in zip(*made, strict=True)]
                structures[f"{name}-level{level:g}"] = float(torch.stack(wrong).mean())
        return {"error": sum(structures.values()) / len(structures), **structures, **images}


def _under_noise(clean: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
    """Structures (B, T, size): `clean` (B, size) with noise of `level` (B, T)."""
    return clean[:, None] + level[..., None] * torch.randn((*level.shape, clean.shape[-1]), generator=generator)


@task(JOINT, JointSettings)
def joint_task(settings: JointSettings, seed: int) -> JointTask:
    """The task of a recipe's settings and seed."""
    return JointTask(settings, seed)
