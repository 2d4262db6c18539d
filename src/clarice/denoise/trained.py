"""Networks with their trained weights: those shipped with the package, or in the folder that CLARICE_WEIGHTS names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from clarice.core.errors import InputError, UsageError
from clarice.denoise.networks import NETWORKS, NetworkKind, box_of, network_kind
from clarice.io.weights import read_weights, weights_path

N = TypeVar("N", bound=nn.Module)
# Tensors beside the weights: noisy images (1, n, L, L), and what the network made of them.
EXAMPLE_NOISY, EXAMPLE_IMAGES = "example.noisy", "example.images"
# The networks of methods that are not named after the only one they use.
NETWORKS_OF = {
    "diffusion": ("polar-transformer", "diffusion"),
    "diffusion+refiner": ("polar-transformer", "diffusion", "refiner"),
}


@dataclass(frozen=True)
class TrainedNetwork:
    """A network ready to be used, what kind it is, and the card of its weights."""

    kind: NetworkKind
    network: nn.Module
    card: dict[str, Any]

    @property
    def box(self) -> int:
        """Edge of the images it was trained on, pixels."""
        return box_of(self.card["recipe"]["network"])

    @property
    def digest(self) -> str:
        """Sixteen digits that tell these weights from others, whatever file they are in."""
        told = hashlib.sha256(self.kind.name.encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            told.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
        return told.hexdigest()[:16]

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.network.parameters())


def weights_of(method: str) -> tuple[Path, ...]:
    """The weights files that a denoising method reads; none for methods that are not trained."""
    names = NETWORKS_OF.get(method, (method,) if method in NETWORKS else ())
    return tuple(weights_path(name) for name in names)


def weights_digest(path: Path) -> str:
    """The first sixteen digits of the SHA-256 of a weights file. Raises InputError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): check the path") from error


def trained_names() -> list[str]:
    """The networks whose weights are there."""
    return [name for name in NETWORKS if weights_path(name).is_file()]


def load_trained(path: Path) -> TrainedNetwork:
    """The network of a weights file, ready for use. Raises InputError when the file does not say or fit its network."""
    stored = read_weights(path)
    try:
        settings = dict(stored.card["recipe"]["network"])
        kind = network_kind(str(settings.pop("name")))
        network = kind.build(settings)
        weights = {name: t for name, t in stored.tensors.items() if name not in (EXAMPLE_NOISY, EXAMPLE_IMAGES)}
        network.load_state_dict(weights)
    except (KeyError, TypeError, UsageError, RuntimeError) as error:
        raise InputError(f"{path} does not hold the weights of a denoiser: choose a file that training made") from error
    return TrainedNetwork(kind, network.eval().requires_grad_(False), stored.card)


def load_network(path: Path, kind: type[N], name: str, box: int, role: str) -> N:
    """The network of a weights file, which must be of `kind`, called `name`, for `box` pixels.

    Raises InputError where it is another; `role` is the key of a recipe that the file was given as.
    """
    trained = load_trained(path)
    if not isinstance(trained.network, kind) or trained.box != box:
        raise InputError(
            f"{path} holds a {trained.kind.name} for {trained.box} px: give a {name} for {box} px as {role}"
        )
    return trained.network


@lru_cache(maxsize=4)
def _loaded(path: Path, changed: float) -> TrainedNetwork:  # noqa: ARG001 (a file that changed is read anew)
    return load_trained(path)


def trained_network(name: str) -> TrainedNetwork:
    """The network `name` with its weights. Raises InputError when they are not there."""
    insist_on_weights(name)
    path = weights_path(name)
    return _loaded(path, path.stat().st_mtime)


def insist_on_weights(name: str) -> None:
    """Raises InputError where the network `name` has no weights."""
    path = weights_path(name)
    if not path.is_file():
        raise InputError(f"there are no weights {path}: train some, or let CLARICE_WEIGHTS name the folder they are in")


def network_settings(trained: TrainedNetwork) -> dict[str, Any]:
    """The network's name and sizes, as a recipe gives them."""
    return dict(trained.card["recipe"]["network"])


def best_device() -> torch.device:
    """The GPU in use where there is one, by its number, which holds for every thread; else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
