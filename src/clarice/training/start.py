"""Where a training starts: at the weights of an earlier one, of the same network or with other blocks of attention."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from clarice.core.errors import InputError
from clarice.denoise.trained import load_trained

_BLOCK = re.compile(r"attention\.(\d+)\.(.+)")
# What foretells the error is told of every block, so that it is learned anew where their number changes.
_HEAD = "foretell."


def take_over(network: nn.Module, path: Path, blocks: Sequence[int] | None = None) -> None:
    """Gives `network` the weights in `path`; with `blocks`, block i of attention those of its block `blocks[i]`.

    A block taken twice refines twice what it refined once: a start from which a deeper network soon gains.

    Raises InputError when the weights are those of another network.
    """
    started = load_trained(path)
    weights = dict(started.network.state_dict())
    try:
        if blocks is None:
            network.load_state_dict(weights)
        else:
            network.load_state_dict({**_own_head(network), **_with_blocks(weights, blocks)})
    except (RuntimeError, KeyError) as error:
        told = "" if blocks is None else f" with the blocks {', '.join(map(str, blocks))}"
        raise InputError(
            f"{path} holds a {started.kind.name} of another size than the recipe's network{told}: "
            "give weights of the same, or none"
        ) from error


def _own_head(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name.startswith(_HEAD)}


def _with_blocks(weights: Mapping[str, Tensor], blocks: Sequence[int]) -> dict[str, Tensor]:
    """The weights with blocks of attention in another order; KeyError for a block that is not there."""
    matched = {name: _BLOCK.fullmatch(name) for name in weights}
    kept = {name: weights[name] for name, match in matched.items() if match is None and not name.startswith(_HEAD)}
    parts = [match[2] for match in matched.values() if match is not None and match[1] == "0"]
    moved = {
        f"attention.{new}.{part}": weights[f"attention.{old}.{part}"]
        for new, old in enumerate(blocks)
        for part in parts
    }
    return kept | moved
