"""Weights of small random networks that sample, and of those they need, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from clarice.denoise.networks import network_kind
from clarice.denoise.trained import weights_digest
from clarice.io.weights import write_weights

BOX = 24
SIZES: dict[str, dict[str, Any]] = {
    "polar-transformer": {
        "box": BOX, "n_angles": 32, "real_rings": 9, "fourier_rings": 7, "channels": 16, "heads": 2,
        "blocks_before": 1, "attention_blocks": 2, "blocks_after": 1,
    },
    "diffusion": {"box": BOX, "channels": 8, "multiples": [1, 2], "attention": [6]},
    "refiner": {"box": BOX, "channels": 8, "levels": 3},
}  # fmt: skip


def write_random_weights(folder: Path, **more: dict[str, Any]) -> None:
    """Weights of the three networks; `more` changes the size of some. Cards name what each was trained on."""
    trained_on: dict[str, str] = {}
    for name, usual in SIZES.items():
        size = {**usual, **more.get(name, {})}
        torch.manual_seed(2)
        network = network_kind(name).build(dict(size))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
        path = folder / f"{name}.safetensors"
        card = {"recipe": {"network": {"name": name, **size}}, "trained_on": dict(trained_on), "images": 0}
        write_weights(path, network.state_dict(), card)
        trained_on[name] = weights_digest(path)
