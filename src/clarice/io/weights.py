"""A network's weights in one file, with a card that says what they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from clarice.core.errors import InputError
from clarice.io.atomic import writing

_CARD = "card"
_SHIPPED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Weights:
    """Tensors by name, floating ones as float32, and the card: JSON about training, data and results."""

    tensors: dict[str, Tensor]
    card: dict[str, Any]


def weights_path(name: str) -> Path:
    """Where the weights of the network `name` are, or would be.

    A folder that CLARICE_WEIGHTS names may hold some networks alone, such as one that was fine-tuned: the others are
    those shipped.
    """
    file = f"{name}.safetensors"
    folder = Path(os.environ.get("CLARICE_WEIGHTS", "") or _SHIPPED)
    if folder.is_dir() and not (folder / file).is_file() and (_SHIPPED / file).is_file():
        return _SHIPPED / file
    return folder / file


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Writes a safetensors file; floating tensors are stored as `dtype`, the others as they are."""
    stored = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).clone().contiguous()
        for name, tensor in tensors.items()
    }
    with writing(path) as temporary:
        temporary.write_bytes(save(stored, metadata={_CARD: json.dumps(card, ensure_ascii=False)}))


def read_weights(path: Path) -> Weights:
    """What `write_weights` wrote. Raises InputError when the file is not of that kind."""
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})[_CARD])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as weights: choose a .safetensors file") from error
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has no card: choose weights that were exported by clarice") from error
    return Weights({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, card)
