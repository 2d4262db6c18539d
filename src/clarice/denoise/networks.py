"""The learned denoisers by name: what makes one from its size, for training and for weights that were trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import nn

from clarice.core.errors import UsageError
from clarice.denoise.diffusion_network import DiffusionNetwork, DiffusionSize
from clarice.denoise.dncnn import DnCNN, DnCNNSize
from clarice.denoise.polar_transformer import PolarTransformer, PolarTransformerSize
from clarice.denoise.refiner import Refiner, RefinerSize
from clarice.denoise.unet import UNet, UNetSize

# Edge of the images that networks are trained on unless a recipe says otherwise.
USUAL_BOX = 64
# Of everything else that a size counts there must be at least one.
_MAY_BE_NONE = ("real_rings", "fourier_rings", "blocks_before", "attention_blocks", "blocks_after")


@dataclass(frozen=True)
class NetworkKind:
    """A network by name: what says how large it is, its usual size, and what makes it.

    `use`: it denoises images "alone" or sets of them "jointly", draws samples of what an image may be ("sampling"), or
    goes over such samples ("refining").
    """

    name: str
    size: type[Any]
    usual: dict[str, Any]
    make: Callable[[Any], nn.Module]
    use: Literal["alone", "jointly", "sampling", "refining"]

    @property
    def joint(self) -> bool:
        """Whether it denoises whole sets."""
        return self.use == "jointly"

    @property
    def alone(self) -> bool:
        """Whether it denoises each image by itself."""
        return self.use == "alone"

    @property
    def denoises(self) -> bool:
        """Whether it makes clean images of noisy ones, rather than samples, or of samples."""
        return self.alone or self.joint

    def build(self, changes: dict[str, Any]) -> nn.Module:
        """A network of the usual size but for `changes`. Raises UsageError for a size there is no network of.

        For one that takes images of any edge, `box` says no more than what it is trained on.
        """
        box = box_of(changes)
        any_box = "box" not in {field.name for field in fields(self.size)}
        changes = {name: value for name, value in changes.items() if not (any_box and name == "box")}
        try:
            size = self.size(**{**self.usual, **changes})
            _insist_on_counts(size)
            if isinstance(size, UNetSize):
                size.insist_on_edge(box)
            return self.make(size)
        except (TypeError, ValueError) as error:
            raise UsageError(f"network {self.name}: {error}") from error


def _insist_on_counts(size: Any) -> None:
    """Raises ValueError for a count that is no whole number, or a switch that is neither on nor off."""
    for field in fields(size):
        value, kind = getattr(size, field.name), type(field.default)
        least = 0 if field.name in _MAY_BE_NONE else 1
        if kind is int and (type(value) is not int or value < least):
            raise ValueError(f"{field.name} {value!r} must be a whole number of at least {least}")
        if kind is bool and type(value) is not bool:
            raise ValueError(f"{field.name} {value!r} must be true or false")


NETWORKS = {
    kind.name: kind
    for kind in (
        NetworkKind("polar-transformer", PolarTransformerSize, {}, PolarTransformer, "jointly"),
        NetworkKind(
            "polar-cnn",
            PolarTransformerSize,
            {"attention_blocks": 0, "blocks_before": 6, "blocks_after": 4},
            PolarTransformer,
            "alone",
        ),
        NetworkKind("dncnn", DnCNNSize, {}, DnCNN, "alone"),
        NetworkKind("unet", UNetSize, {}, UNet, "alone"),
        NetworkKind("diffusion", DiffusionSize, {}, DiffusionNetwork, "sampling"),
        NetworkKind("refiner", RefinerSize, {}, Refiner, "refining"),
    )
}


def box_of(changes: Mapping[str, Any]) -> int:
    """Edge in pixels of the images a network is made for, from what a recipe changes of its usual size.

    Raises UsageError for what is no such edge.
    """
    box = changes.get("box", USUAL_BOX)
    if type(box) is not int or box < 1:
        raise UsageError(f"network: box {box!r} must be a whole number of pixels, such as {USUAL_BOX}")
    return box


def network_kind(name: str) -> NetworkKind:
    """The network `name`. Raises UsageError, with the names there are, for any other."""
    if name not in NETWORKS:
        raise UsageError(f"there is no network {name!r}: choose one of {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]


def is_denoising_network(name: str) -> bool:
    """Whether a method is a network that denoises images, by themselves or in sets."""
    return name in NETWORKS and NETWORKS[name].denoises
