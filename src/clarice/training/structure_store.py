"""Training specimens as coefficients of the learned space: few numbers each, so that all that were made are kept.

Specimen k of a seed is the same whenever it is asked for. Blocks of them are made in the background, and kept on disk
where a folder for that is named: going on with a training then needs none of them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from clarice.abinitio.structure_space import structure_space
from clarice.core.errors import UsageError
from clarice.io.atomic import writing
from clarice.training.specimens import SpecimenSettings, make_specimen
from clarice.training.structures import MOLECULES_ALONE, StructureCollection

# Specimens a block. A block is made as a whole, a tenth of a second each.
BLOCK = 64
# Raised when what specimens are made of changes, so that kept ones are not taken for theirs.
_FORMAT = 1


class StructureStore:
    """Coefficients (size,) float32 of specimens 0, 1, 2 …, made in `workers` threads and kept in `cache`, if given.

    Raises UsageError for a number of workers below 1.
    """

    def __init__(
        self,
        settings: SpecimenSettings,
        structures: StructureCollection | None,
        cache: Path | None = None,
        workers: int = 1,
    ) -> None:
        if workers < 1:
            raise UsageError(f"workers {workers} must be at least 1")
        self._settings, self._structures = settings, structures
        source = MOLECULES_ALONE if structures is None else structures.identity
        made_of = f"{_FORMAT} {settings} {structure_space().own_ball} {BLOCK} {source}"
        digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        self._folder = None if cache is None else cache / f"structures-{digest}"
        self._builders = ThreadPoolExecutor(workers, thread_name_prefix="structures")
        self._coming: dict[int, Future[Tensor]] = {}
        self._held = torch.empty((0, structure_space().size))

    def first(self, count: int, *, ahead: bool = False) -> Tensor:
        """The first `count` specimens, (count, size), waiting for those that are not made yet.

        With `ahead`, the next block is begun, so that it is there when it is asked for.
        """
        self._begin(count + BLOCK if ahead else count)
        held, blocks = len(self._held) // BLOCK, -(-count // BLOCK)
        if blocks > held:
            self._held = torch.cat([self._held, *(self._coming.pop(n).result() for n in range(held, blocks))])
        return self._held[:count]

    def _begin(self, count: int) -> None:
        """Starts making those of the first `count` that are not there."""
        for number in range(len(self._held) // BLOCK, -(-count // BLOCK)):
            if number not in self._coming:
                self._coming[number] = self._builders.submit(self._block, number)

    def _block(self, number: int) -> Tensor:
        path = None if self._folder is None else self._folder / f"{number:05d}.safetensors"
        if path is not None:
            try:
                kept = load_file(path)["coefficients"]
                if kept.shape == (BLOCK, structure_space().size):
                    return kept
            except (OSError, SafetensorError, KeyError):
                pass  # missing or damaged: it is made anew
        with torch.no_grad():
            made = [self._coefficients(number * BLOCK + k) for k in range(BLOCK)]
        coefficients = torch.stack(made)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path) as temporary:
                temporary.write_bytes(save({"coefficients": coefficients}))
        return coefficients

    def _coefficients(self, number: int) -> Tensor:
        return structure_space().of_volume(make_specimen(self._settings, number, self._structures).volume)


def specimen_settings(seed: int, fill_spread: Sequence[float]) -> SpecimenSettings:
    """Specimens in the box that the space learns from, filling between so many times its usual share of it."""
    space = structure_space()
    least, most = (share * space.learning_fill for share in fill_spread)
    return SpecimenSettings(seed, space.learning_box, least, most)
