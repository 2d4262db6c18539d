"""A small pool of small molecules, so that the tests of training data run in seconds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from clarice.training.batches import EndlessSets
from clarice.training.set_draws import SetSettings
from clarice.training.specimen_pool import SpecimenPool
from clarice.training.specimens import SpecimenSettings

BOX = 24


def small_pool(**options: int) -> SpecimenPool:
    return SpecimenPool(SpecimenSettings(seed=5, box=BOX), **{"slots": 3, "replace_every": 2, **options})


@lru_cache(maxsize=1)
def _shared_pool() -> SpecimenPool:
    return small_pool()


def small_sets(pool: SpecimenPool | None = None, **options: Any) -> EndlessSets:
    chosen = {"seed": 1, "images_per_batch": 16, "sizes": (1, 4, 8), "size_weights": (1.0, 1.0, 1.0), **options}
    return EndlessSets(SetSettings(**chosen), _shared_pool() if pool is None else pool, torch.device("cpu"))
