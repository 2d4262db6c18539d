"""Tasks on simulated sets: what their recipes share, and where batches and validation sets come from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from clarice.core.errors import UsageError
from clarice.training.batches import EndlessSets, SetBatch
from clarice.training.set_draws import SetSettings, largest_batch
from clarice.training.specimen_pool import SpecimenPool
from clarice.training.specimens import SpecimenSettings
from clarice.training.structures import MOLECULES_ALONE, data_folder, training_structures
from clarice.training.validation import SMALL_KINDS, SetKind, ValidationSettings, validation_sets

# In the words on what was trained on, it stands between the structures and the networks whose output was.
OUTPUT_OF = ", the output of "


class SettingsPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSettings(BaseModel):
    """Which network, and how its size differs from the usual one."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def changes(self) -> dict[str, Any]:
        """The keys beside the name."""
        return dict(self.model_extra or {})


class PoolSettings(SettingsPart):
    """Specimens held at a time, how many batches pass before one is replaced, and the share of the box they fill."""

    slots: int = Field(default=48, ge=1)
    replace_every: int = Field(default=4, ge=1)
    workers: int = Field(default=1, ge=1)
    least_fill: float = 0.5
    largest_fill: float = 0.75


class JudgedOn(SettingsPart):
    """The fixed sets that training is judged on."""

    structures: int = Field(default=3, ge=1)
    kinds: Sequence[SetKind] = SMALL_KINDS


class SimulatedSettings(SettingsPart):
    """The keys that recipes on simulated sets share.

    `data`: folder of structures, the environment's CLARICE_DATA if None. `cache`: where validation sets are kept.
    `molecules`: procedural molecules alone, whatever the environment names.
    """

    network: NetworkSettings
    sets: dict[str, Any] = Field(default_factory=dict)
    specimens: PoolSettings = PoolSettings()
    validation: JudgedOn = JudgedOn()
    data: Path | None = None
    molecules: bool = False
    cache: Path | None = None


class SimulatedSets:
    """Endless sets of simulated particles with an edge of `box` pixels, and the fixed ones to judge on.

    Raises UsageError for settings that do not go together.
    """

    def __init__(self, settings: SimulatedSettings, seed: int, box: int) -> None:
        self.box = box
        try:
            self.sets = SetSettings(seed=seed, **settings.sets)
        except TypeError as error:
            raise UsageError(f"sets: {error}") from error
        self.images_per_batch = self.sets.images_per_batch
        if settings.molecules and settings.data is not None:
            raise UsageError(f"data {settings.data} and molecules exclude each other: drop one of them")
        self.data = None if settings.molecules else data_folder(settings.data)
        judged = settings.validation
        self.judged_on = ValidationSettings(box=box, structures=judged.structures, kinds=judged.kinds)
        self._pool, self._cache = settings.specimens, settings.cache
        self._endless: EndlessSets | None = None

    def simulated(self, position: int, rank: int, world: int, device: torch.device) -> SetBatch:
        """Share `rank` of `world` of batch `position`, simulated on `device`."""
        return self.endless(device).batch(position, rank, world)

    def endless(self, device: torch.device) -> EndlessSets:
        """The sets by number, simulated on `device`."""
        if self._endless is None:
            self._endless = EndlessSets(self.sets, self.specimens, device)
        return self._endless

    def largest(self, position: int) -> int:
        """The first batch of the largest sets, for which attention takes most memory, from `position` on."""
        return largest_batch(self.sets, position)

    @cached_property
    def specimens(self) -> SpecimenPool:
        """What is shown in the sets. Raises InputError when there are no structures where they are said to be."""
        pool = self._pool
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

    @cached_property
    def fixed_sets(self) -> dict[str, SetBatch]:
        """The sets of validation structures by kind."""
        return validation_sets(self.judged_on, self.data, self._cache)

    def mean_over_shown(self, figures: dict[str, float]) -> float:
        """The mean of figures by kind over the kinds with particles in them."""
        shown = [figures[kind.name] for kind in self.judged_on.kinds if not kind.empty]
        return sum(shown) / len(shown)
