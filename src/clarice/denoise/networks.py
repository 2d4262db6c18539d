"""The learned denoisers by name: what makes one from its size, for training and for weights that were trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from clarice.core.errors import UsageError
from clarice.denoise.dncnn import DnCNN, DnCNNSize
from clarice.denoise.polar_transformer import PolarTransformer, PolarTransformerSize
from clarice.denoise.unet import UNet, UNetSize

# Edge of the images that networks are trained on unless a recipe says otherwise.
USUAL_BOX = 64


@dataclass(frozen=True)
class NetworkKind:
    """A network by name: what says how large it is, its usual size, and what makes it; `joint`: it sees whole sets."""

    name: str
    size: type[Any]
    usual: dict[str, Any]
    make: Callable[[Any], nn.Module]
    joint: bool

    def build(self, changes: dict[str, Any]) -> nn.Module:
        """A network of the usual size but for `changes`. Raises UsageError for a size there is no network of.

        For one that takes images of any edge, `box` says no more than what it is trained on.
        """
        any_box = "box" not in {field.name for field in fields(self.size)}
        changes = {name: value for name, value in changes.items() if not (any_box and name == "box")}
        try:
            return self.make(self.size(**{**self.usual, **changes}))
        except (TypeError, ValueError) as error:
            raise UsageError(f"network {self.name}: {error}") from error


NETWORKS = {
    kind.name: kind
    for kind in (
        NetworkKind("polar-transformer", PolarTransformerSize, {}, PolarTransformer, joint=True),
        NetworkKind(
            "polar-cnn",
            PolarTransformerSize,
            {"attention_blocks": 0, "blocks_before": 6, "blocks_after": 4},
            PolarTransformer,
            joint=False,
        ),
        NetworkKind("dncnn", DnCNNSize, {}, DnCNN, joint=False),
        NetworkKind("unet", UNetSize, {}, UNet, joint=False),
    )
}


def box_of(changes: Mapping[str, Any]) -> int:
    """Edge in pixels of the images a network is made for, from what a recipe changes of its usual size."""
    return int(changes.get("box", USUAL_BOX))


def network_kind(name: str) -> NetworkKind:
    """The network `name`. Raises UsageError, with the names there are, for any other."""
    if name not in NETWORKS:
        raise UsageError(f"there is no network {name!r}: choose one of {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]
