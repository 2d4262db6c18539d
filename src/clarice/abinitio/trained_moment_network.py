"""The network that knows structures with its weights: those shipped, or in the folder that CLARICE_WEIGHTS names."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from clarice.abinitio.kam import autocorrelations_of
from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.moment_network import MomentNetwork, MomentNetworkSize
from clarice.abinitio.structure_space import structure_space
from clarice.core.errors import InputError
from clarice.io.weights import read_weights, weights_path

NAME = "structures"
# Tensors beside the weights: what the network was given, and what it made of it.
EXAMPLE = "example."


def load_moment_network(path: Path) -> MomentNetwork:
    """The network of a weights file, ready for use. Raises InputError when the file does not hold one."""
    stored = read_weights(path)
    try:
        network = MomentNetwork(MomentNetworkSize(**stored.card["recipe"]["network"]))
        network.load_state_dict({name: t for name, t in stored.tensors.items() if not name.startswith(EXAMPLE)})
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path} does not hold a network that knows structures: choose a file that the task structures made"
        ) from error
    return network.eval()


@torch.no_grad()
def with_example(network: MomentNetwork) -> dict[str, Tensor]:
    """The network's weights, and an example by which a reader of the file can tell that they work as they did."""
    space, generator = structure_space(), torch.Generator().manual_seed(0)
    structures = torch.randn((2, space.size), generator=generator)
    spheres = space.spheres((structures * network.spread).double())
    error = torch.tensor([0.0, 1e-5], dtype=torch.float64)
    known = KnownCorrelations.of(spheres[:, 0], autocorrelations_of(spheres), error, network.spread)
    level = torch.tensor([0.5, 2.0])
    noisy = structures + level[:, None] * torch.randn(structures.shape, generator=generator)
    # Rounded as they are stored.
    given = [values.half().float() for values in (noisy, known.nearest(noisy), known.context, level)]
    names = [f"{EXAMPLE}{name}" for name in ("noisy", "nearest", "context", "level", "found")]
    made = [*given, network.eval().expected(*given)]
    return {**network.state_dict(), **dict(zip(names, made, strict=True))}


@torch.no_grad()
def example_replayed(path: Path) -> tuple[Tensor, Tensor]:
    """What the network of a weights file makes of its example now, and what it made when it was written."""
    stored = read_weights(path).tensors
    given = [stored[f"{EXAMPLE}{name}"] for name in ("noisy", "nearest", "context", "level")]
    return load_moment_network(path).expected(*given), stored[f"{EXAMPLE}found"]


@lru_cache(maxsize=2)
def _loaded(path: Path, _changed: int) -> MomentNetwork:
    return load_moment_network(path)


def moment_network() -> MomentNetwork:
    """The network with the weights there are. Raises InputError when there are none."""
    path = weights_path(NAME)
    if not path.is_file():
        raise InputError(f"there are no weights {path}: train some, or let CLARICE_WEIGHTS name the folder they are in")
    return _loaded(path, path.stat().st_mtime_ns)
