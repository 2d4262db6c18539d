"""What training takes of the device's memory, said before it starts, and into how many parts a share must go."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from clarice.training.learner import Learner
from clarice.training.prefetch import tensors_in

MEGABYTE = 1e6
# Weights, gradients, their average and the optimiser's two moments.
_COPIES_OF_WEIGHTS = 5
# A part of the free memory is left to fragments and to what other programs take.
USABLE_SHARE = 0.85


@dataclass(frozen=True)
class MemoryEstimate:
    """Megabytes of the weights and their companions, of a share with what its gradient needs, and what is free."""

    parameters: int
    weights_mb: float
    share_mb: float
    free_mb: float

    @property
    def parts(self) -> int:
        """Into how many parts (a power of two) a share must go to fit beside the weights; 0 where nothing would."""
        room = USABLE_SHARE * self.free_mb - self.weights_mb
        if room <= 0:
            return 0
        parts = 1
        while self.share_mb / parts > room:
            parts *= 2
        return parts

    def sentence(self, images: int) -> str:
        """The estimate in one sentence."""
        return (
            f"{self.parameters:,} parameters take {self.weights_mb:,.0f} MB with gradients, moments and average, "
            f"a batch of {images} images about {self.share_mb:,.0f} MB; {self.free_mb:,.0f} MB are free"
        )


def estimate_memory(learner: Learner, share: Any) -> MemoryEstimate:
    """Counts the weights, and the bytes that a forward pass over `share` keeps for its gradient.

    The pass runs on a copy of the network, so that it leaves no trace in running statistics.
    """
    parameters = sum(p.numel() for p in learner.model.parameters())
    weight_bytes = sum(t.nbytes for t in learner.model.state_dict().values())
    device = learner.processes.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    network = copy.deepcopy(learner.model)
    kept: dict[int, int] = {t.untyped_storage().data_ptr(): 0 for t in network.parameters()}
    kept |= {t.untyped_storage().data_ptr(): 0 for t in network.buffers()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), learner.processes.fabric.autocast():
        loss, _ = learner.task.loss(network, share)
    data = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors_in(share)}
    del loss
    return MemoryEstimate(
        parameters,
        _COPIES_OF_WEIGHTS * weight_bytes / MEGABYTE,
        sum((kept | data).values()) / MEGABYTE,
        free / MEGABYTE,
    )
