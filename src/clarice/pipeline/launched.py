"""The processes that `torchrun` started for one job, on one host or several; a single one where it did not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

from clarice.core.errors import ResourceError

# What `torchrun` tells each process that it starts.
_LAUNCHED = "TORCHELASTIC_RUN_ID"
# Processes wait for one another as long as it takes: one that fails ends the others.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Launched:
    """This process is `rank` of `world`; `meet` returns once every process has called it."""

    rank: int
    world: int
    meet: Callable[[], None]

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0


def process_count() -> int:
    """How many processes were started for this job."""
    return int(os.environ.get("WORLD_SIZE", "1")) if _LAUNCHED in os.environ else 1


@contextmanager
def launched() -> Iterator[Launched]:
    """This process among those of its job, each with a GPU of its own where there are some."""
    if _LAUNCHED not in os.environ:
        yield Launched(0, 1, lambda: None)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Launched(torch.distributed.get_rank(), torch.distributed.get_world_size(), _meet)
    finally:
        torch.distributed.destroy_process_group()


def _meet() -> None:
    try:
        torch.distributed.barrier()
    except RuntimeError as error:
        raise ResourceError("another process of this job has ended before its time: see what it says") from error
