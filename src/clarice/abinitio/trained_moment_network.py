"""The network that knows structures with its weights: those shipped, or in the folder that CLARICE_WEIGHTS names."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from clarice.abinitio.moment_network import MomentNetwork, MomentNetworkSize
from clarice.core.errors import InputError
from clarice.io.weights import read_weights, weights_path

NAME = "structures"


def load_moment_network(path: Path) -> MomentNetwork:
    """The network of a weights file, ready for use. Raises InputError when the file does not hold one."""
    stored = read_weights(path)
    try:
        network = MomentNetwork(MomentNetworkSize(**stored.card["recipe"]["network"]))
        network.load_state_dict(stored.tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path} does not hold a network that knows structures: choose a file that the task structures made"
        ) from error
    return network.eval()


@lru_cache(maxsize=2)
def _loaded(path: Path, _changed: int) -> MomentNetwork:
    return load_moment_network(path)


def moment_network() -> MomentNetwork:
    """The network with the weights there are. Raises InputError when there are none."""
    path = weights_path(NAME)
    if not path.is_file():
        raise InputError(f"there are no weights {path}: train some, or let CLARICE_WEIGHTS name the folder they are in")
    return _loaded(path, path.stat().st_mtime_ns)
