"""A trained polar transformer with fewer or more blocks of attention than it was trained with.

Each block adds to the features of the one before. So the first blocks of a deep network are a shallow one that does
less, and a block that adds nothing makes a deep network of a shallow one that does the same: starts for fine-tuning to
a stack that has less, or more, to teach.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.denoise.networks import network_kind
from clarice.denoise.polar_transformer import PolarTransformer
from clarice.denoise.trained import TrainedNetwork, network_settings

_PREFIX = "attention."
# What a block adds to the features, it adds through these.
_ADDED_THROUGH = (
    "attend.merge.weight",
    "attend.tell.weight",
    "attend.tell.bias",
    "digest.second.weight",
    "digest.second.bias",
)
# What foretells the error is told of every block, the numbers of the last one last.
_TOLD = {"foretell.centre": 0.0, "foretell.spread": 1.0, "foretell.first.weight": 0.0}


def with_attention_blocks(trained: TrainedNetwork, blocks: int) -> TrainedNetwork:
    """The first `blocks` of a polar transformer's attention, or all of them and new ones that add nothing yet.

    New blocks are copies of the last one but for what they add. Raises UsageError for another network, or no block.
    """
    network = trained.network
    if not isinstance(network, PolarTransformer) or not network.size.attention_blocks:
        raise UsageError(f"a {trained.kind.name} has no blocks of attention to change: leave their number out")
    if blocks < 1:
        raise UsageError(f"{blocks} blocks of attention are none: give 1 or more, or fine-tune the polar-cnn")
    before = network.size.attention_blocks
    settings: dict[str, Any] = {**network_settings(trained), "attention_blocks": blocks}
    changed = network_kind(trained.kind.name).build({k: v for k, v in settings.items() if k != "name"})
    state = network.state_dict()
    for name, tensor in changed.state_dict().items():
        if name.startswith(_PREFIX):
            number, part = name.removeprefix(_PREFIX).split(".", 1)
            kept = state[f"{_PREFIX}{min(int(number), before - 1)}.{part}"]
            tensor.copy_(torch.zeros_like(kept) if int(number) >= before and part in _ADDED_THROUGH else kept)
        elif name in _TOLD:
            _fill(tensor, state[name], _TOLD[name])
        else:
            tensor.copy_(state[name])
    recipe = {**trained.card["recipe"], "network": settings}
    return TrainedNetwork(trained.kind, changed.eval().requires_grad_(False), {**trained.card, "recipe": recipe})


def _fill(tensor: Tensor, kept: Tensor, rest: float) -> None:
    """Writes what is kept (…, F) into a tensor of fewer or more columns, `rest` into those beyond."""
    columns = min(tensor.shape[-1], kept.shape[-1])
    tensor.fill_(rest)
    tensor[..., :columns] = kept[..., :columns]
