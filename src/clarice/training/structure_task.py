"""The task `structures`: a network learns what molecules look like, given correlations that are known more or less.

Each structure of a batch comes with noise of a level of its own, and with correlations C_l that are exact, have errors,
or are as good as unknown: one network then serves moments of any number of particles, and as a prior alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from clarice.abinitio.kam import autocorrelations_of
from clarice.abinitio.known_correlations import UNKNOWN, KnownCorrelations, disturbed
from clarice.abinitio.moment_network import MomentNetwork, MomentNetworkSize
from clarice.abinitio.structure_space import structure_space
from clarice.core.errors import UsageError
from clarice.core.seeds import generator_of
from clarice.physics.potential import atoms_to_volume
from clarice.training.simulated_sets import SettingsPart
from clarice.training.structure_noise import NoiseLevels, insist_on_order, level_weight, structure_error
from clarice.training.structure_store import StructureStore, specimen_settings
from clarice.training.structures import MOLECULES_ALONE, data_folder, training_structures
from clarice.training.task import task
from clarice.training.validation import validation_subjects

# What is validated on: levels of noise, errors of correlations, and draws of each structure.
_VALIDATION_LEVELS, _VALIDATION_ERRORS, _VALIDATION_DRAWS = (0.3, 1.0, 3.0), (0.0, 1e-5, UNKNOWN), 4


class KnownSettings(SettingsPart):
    """How well correlations are known: shares of exact and of unknown ones, and the range of the others' errors.

    Errors are those of elements of C_0, in units of the square of degree 0's length; drawn evenly in their logarithm.
    """

    exact_share: float = Field(default=0.3, ge=0, le=1)
    unknown_share: float = Field(default=0.15, ge=0, le=1)
    least_error: float = Field(default=1e-8, gt=0)
    largest_error: float = Field(default=1e-2, gt=0)


class StructureTaskSettings(NoiseLevels):
    """The keys of a recipe for a network that knows structures.

    `first_specimens` are made before training begins, and `specimens_added` more each batch; batches are drawn from all
    that were made. A molecule fills `least_fill` to `largest_fill` times the share of the box that the learned space is
    for. Levels of noise are log-normal. `data`, `molecules`: as for denoisers; `cache`: where specimens are kept.
    """

    network: MomentNetworkSize = MomentNetworkSize()
    structures_per_batch: int = Field(default=64, ge=1)
    first_specimens: int = Field(default=2048, ge=1)
    specimens_added: int = Field(default=1, ge=0)
    least_fill: float = Field(default=0.9, gt=0, le=1.1)
    largest_fill: float = Field(default=1.02, gt=0, le=1.1)
    known: KnownSettings = KnownSettings()
    validation_structures: int = Field(default=5, ge=1)
    workers: int = Field(default=1, ge=1)
    data: Path | None = None
    molecules: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class StructureBatch:
    """Structures (B, size), the same under noise, and how strong that is (B,); what is known of their correlations.

    All in scaled coefficients.
    """

    clean: Tensor
    noisy: Tensor
    nearest: Tensor
    context: Tensor
    level: Tensor

    def to(self, device: torch.device) -> StructureBatch:
        """The same on another device."""
        return StructureBatch(*(values.to(device) for values in vars(self).values()))

    def sets(self, rows: slice) -> StructureBatch:
        """Some of the structures."""
        return StructureBatch(*(values[rows] for values in vars(self).values()))


def _insist_on_sense(settings: StructureTaskSettings) -> None:
    """Raises UsageError, naming the key, for numbers that do not go together."""
    known = settings.known
    if known.exact_share + known.unknown_share > 1:
        raise UsageError(
            f"known: exact_share {known.exact_share:g} and unknown_share {known.unknown_share:g} are more than 1 "
            "together: lower one of them"
        )
    for name, value in vars(settings.network).items():
        if value < 1:
            raise UsageError(f"network: {name} {value} must be at least 1")
    ranges = (
        ("known: least_error", known.least_error, "largest_error", known.largest_error),
        ("least_level", settings.least_level, "largest_level", settings.largest_level),
        ("least_fill", settings.least_fill, "largest_fill", settings.largest_fill),
    )
    for least, low, largest, high in ranges:
        insist_on_order(least, low, largest, high)


class StructureTask:
    """Noisy structures with what is known of them in, the structures as the target. Raises UsageError, InputError."""

    def __init__(self, settings: StructureTaskSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.images_per_batch = settings.structures_per_batch
        if settings.molecules and settings.data is not None:
            raise UsageError(f"data {settings.data} and molecules exclude each other: drop one of them")
        _insist_on_sense(settings)
        self.data = None if settings.molecules else data_folder(settings.data)
        self._fixed: dict[str, StructureBatch] | None = None

    @cached_property
    def store(self) -> StructureStore:
        """The specimens. Raises InputError when there are no structures where they are said to be."""
        settings = self.settings
        specimens = specimen_settings(self.seed, (settings.least_fill, settings.largest_fill))
        return StructureStore(specimens, training_structures(self.data), settings.cache, settings.workers)

    @cached_property
    def spread(self) -> Tensor:
        """The population's root mean square in each (l, s), of the first specimens: (size,)."""
        return structure_space().spread_of(structure_space().scaled(self.store.first(self.settings.first_specimens)))

    @property
    def source(self) -> str:
        """Which structures are trained on, wherever they lie."""
        structures = training_structures(self.data)
        return MOLECULES_ALONE if structures is None else structures.identity

    @property
    def description(self) -> str:
        """The same in a sentence for the log."""
        return f"coefficients of specimens made from {self.source}"

    def model(self) -> nn.Module:
        """A new network of the recipe's size, scaled to the first specimens."""
        network = MomentNetwork(self.settings.network)
        network.spread.copy_(self.spread)
        return network

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> StructureBatch:
        """Share `rank` of `world` of batch `position`."""
        if self.images_per_batch % world:
            raise UsageError(f"{self.images_per_batch} structures a batch cannot be shared by {world} processes")
        settings, count = self.settings, self.images_per_batch // world
        generator = generator_of(self.seed, position, rank)
        made = settings.first_specimens + settings.specimens_added * position
        chosen = torch.randint(made, (count,), generator=generator)
        structures = structure_space().scaled(self.store.first(made, ahead=settings.specimens_added > 0)[chosen])
        level = settings.drawn((count,), generator)
        return seen_structures(structures, self.spread, level, self._errors(count, generator), generator).to(device)

    def _errors(self, count: int, generator: torch.Generator) -> Tensor:
        known = self.settings.known
        kind = torch.rand(count, generator=generator, dtype=torch.float64)
        least, most = (
            torch.tensor(value, dtype=torch.float64).log() for value in (known.least_error, known.largest_error)
        )
        errors = (least + (most - least) * torch.rand(count, generator=generator, dtype=torch.float64)).exp()
        errors[kind < known.exact_share] = 0.0
        errors[kind > 1 - known.unknown_share] = UNKNOWN
        return errors

    def largest(self, position: int) -> int:
        """Any batch: all take the same memory."""
        return position

    def loss(self, model: nn.Module, batch: StructureBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error over the structures' mean square, weighted so that all levels count alike."""
        assert isinstance(model, MomentNetwork)
        error = _squared_error(model, batch)
        return (level_weight(batch.level) * error).mean(), {"relative_error": error.detach().mean()}

    @torch.no_grad()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Relative error on fixed structures by level of noise and error of correlations; "error" is their mean."""
        assert isinstance(model, MomentNetwork)
        figures = {
            name: float(_squared_error(model, batch.to(device)).mean()) for name, batch in self._judged().items()
        }
        return {"error": sum(figures.values()) / len(figures), **figures}

    def _judged(self) -> dict[str, StructureBatch]:
        if self._fixed is None:
            structures = validation_structures(self.settings.validation_structures, self.data)
            repeated = structures.repeat(_VALIDATION_DRAWS, 1)
            self._fixed = {}
            for error in _VALIDATION_ERRORS:
                known = "exact" if error == 0 else "unknown" if error == UNKNOWN else f"error{error:g}"
                for level in _VALIDATION_LEVELS:
                    levels = torch.full((len(repeated),), level)
                    errors = torch.full((len(repeated),), error, dtype=torch.float64)
                    made = seen_structures(repeated, self.spread, levels, errors, generator_of(1))
                    self._fixed[f"{known}-level{level:g}"] = made
        return self._fixed


def validation_structures(count: int, data: Path | None) -> Tensor:
    """Coefficients (count, size) of structures to validate on, scaled to degree 0."""
    space = structure_space()
    volumes = []
    for subject in validation_subjects(count, data):
        pixel = subject.atoms.diameter_angstrom() / (space.learning_fill * space.learning_box)
        volumes.append(space.of_volume(atoms_to_volume(subject.atoms, space.learning_box, pixel)))
    return space.scaled(torch.stack(volumes))


def seen_structures(
    structures: Tensor, spread: Tensor, level: Tensor, error: Tensor, generator: torch.Generator
) -> StructureBatch:
    """Structures (B, size), scaled to degree 0, under noise of `level` (B,), their C_l known within `error` (B,)."""
    spheres = structure_space().spheres(structures.double())
    first, correlations = disturbed(spheres[:, 0], autocorrelations_of(spheres), error, generator)
    known = KnownCorrelations.of(first, correlations, error, spread)
    clean = structures / spread
    noisy = clean + level[:, None] * torch.randn(clean.shape, generator=generator)
    return StructureBatch(clean, noisy, known.nearest(noisy), known.context, level)


def _squared_error(network: MomentNetwork, batch: StructureBatch) -> Tensor:
    found = network.expected(batch.noisy, batch.nearest, batch.context, batch.level)
    return structure_error(found, batch.clean)


@task("structures", StructureTaskSettings)
def structure_task(settings: StructureTaskSettings, seed: int) -> StructureTask:
    """The task of a recipe's settings and seed."""
    return StructureTask(settings, seed)
