"""Specimens at hand: a pool of which one is replaced every few batches, built in the background ahead of need.

Which specimen stands in a slot is a function of the position alone, so any position can be gone to.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.geometry.interpolated_slices import oversampled_spectrum
from clarice.training.specimens import Specimen, SpecimenSettings, make_specimen
from clarice.training.structures import StructureCollection


class SpecimenPool:
    """`slots` specimens, one replaced by a new one every `replace_every` batches, slot after slot.

    `structures` are those to train on; without them all specimens are procedural molecules. Building takes up to
    half a second a specimen on one core, in `workers` threads, and never depends on the order of requests.

    Raises UsageError for numbers out of range.
    """

    def __init__(
        self,
        settings: SpecimenSettings,
        structures: StructureCollection | None = None,
        *,
        slots: int = 48,
        replace_every: int = 4,
        workers: int = 1,
    ) -> None:
        for name, value in (("slots", slots), ("replace_every", replace_every), ("workers", workers)):
            if value < 1:
                raise UsageError(f"{name} {value} must be at least 1")
        self.settings = settings
        self.structures = structures
        self.slots, self.replace_every = slots, replace_every
        self._builders = ThreadPoolExecutor(workers, thread_name_prefix="specimen")
        self._coming: dict[int, Future[tuple[Specimen, Tensor]]] = {}
        self._held = np.full(slots, -1, dtype=np.int64)
        self._pixel_sizes = np.zeros(slots)
        self._table: Tensor | None = None

    @property
    def description(self) -> str:
        """What the specimens are made from, in a sentence for the log."""
        if self.structures is None:
            return "procedural molecules only: no folder of training structures was named"
        return f"{len(self.structures)} structures of {self.structures.path}, complexes of their chains, and molecules"

    def numbers(self, position: int) -> NDArray[np.int64]:
        """The specimen that stands in each slot at a position, (slots,)."""
        replaced = position // self.replace_every
        # Slot s has been replaced once for every turn r ≤ `replaced` with r ≡ s + 1 (mod slots).
        generation = (replaced + self.slots - 1 - np.arange(self.slots)) // self.slots
        return np.arange(self.slots) + self.slots * generation

    def expect(self, numbers: Iterable[int]) -> None:
        """Starts building specimens that will be asked for, in that order; forgets others not yet begun."""
        wanted = dict.fromkeys(int(number) for number in numbers)
        for number in [one for one in self._coming if one not in wanted]:
            if self._coming[number].cancel() or self._coming[number].done():
                del self._coming[number]
        for number in wanted:
            if number not in self._coming and number not in self._held:
                self._coming[number] = self._builders.submit(self._build, number)

    def _build(self, number: int) -> tuple[Specimen, Tensor]:
        with torch.no_grad():
            specimen = make_specimen(self.settings, number, self.structures)
            return specimen, oversampled_spectrum(specimen.volume)

    def spectra(
        self, position: int, slots: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, NDArray[np.float64]]:
        """The pool's `oversampled_spectrum`s on `device` (slots, …), and their pixel sizes (slots,), Å.

        Rows other than `slots` may hold anything.
        """
        numbers = self.numbers(position)
        table = self._on(device)
        self.expect([*numbers[slots], *self._coming])
        for slot in np.unique(slots):
            if self._held[slot] != numbers[slot]:
                self._place(int(slot), int(numbers[slot]), table)
        return table, self._pixel_sizes.copy()

    def _on(self, device: torch.device) -> Tensor:
        if self._table is None or self._table.device != torch.empty(0, device=device).device:
            box = self.settings.box
            shape = (self.slots, 2 * box + 1, 2 * box + 1, box + 1, 2)
            self._table = torch.zeros(shape, device=device)
            self._held[:] = -1
        return self._table

    def _place(self, slot: int, number: int, table: Tensor) -> None:
        pending = self._coming.pop(number, None)
        specimen, spectrum = self._build(number) if pending is None else pending.result()
        table[slot].copy_(spectrum)
        self._held[slot] = number
        self._pixel_sizes[slot] = specimen.pixel_size_angstrom
