"""Memory that a thread writes over and over: pages handed out anew by the system cost more than arithmetic on them."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_KEPT_BYTES = 64 * 2**20

_thread = threading.local()


def scratch(name: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """A float32 tensor of undefined content, the same memory for every call with this `name` in this thread.

    It is the caller's until the next such call, and is kept for as long as the thread lives. An accelerator has its own
    store of used memory, and very much should not be held for good: there the tensor is simply a new one.
    """
    size = math.prod(shape)
    if device.type != "cpu" or 4 * size > LARGEST_KEPT_BYTES:
        return torch.empty(tuple(shape), dtype=torch.float32, device=device)
    kept: dict[str, Tensor] | None = getattr(_thread, "kept", None)
    if kept is None:
        kept = _thread.kept = {}
    if name not in kept or kept[name].numel() < size:
        kept.pop(name, None)
        with torch.inference_mode(False):  # later callers may not be in that mode
            kept[name] = torch.empty(size, dtype=torch.float32)
    return kept[name][:size].view(tuple(shape))
