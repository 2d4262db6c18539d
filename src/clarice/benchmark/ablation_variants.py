"""What `ablations` trains: a small polar transformer, and the same with one thing taken away, exchanged or resized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarice.training.validation import SetKind

WHOLE = "whole"
# 32-px images with 13 rings in real space and 10 in Fourier space.
_SIZE: dict[str, Any] = {
    "box": 32,
    "n_angles": 32,
    "real_rings": 13,
    "fourier_rings": 10,
    "channels": 64,
    "blocks_before": 1,
    "attention_blocks": 3,
    "blocks_after": 1,
}
_RINGS = _SIZE["real_rings"] + _SIZE["fourier_rings"]
# Without attention, as many convolutions as with it.
_ALONE = {"attention_blocks": 0, "blocks_before": 4}
SETS: dict[str, Any] = {
    "images_per_batch": 128,
    "sizes": [1, 8, 32, 64],
    "size_weights": [1, 1, 2, 2],
    "least_snr": 0.02,
    "largest_snr": 0.3,
    "ctf_share": 0.0,
    "shift_share": 0.0,
    "poisson_share": 0.0,
}
# At half the box a pixel holds four times the area, so that the protocol's SNR of 0.02 at 64 px is one of 0.05 or so.
KINDS = (
    SetKind("single", images=1, views=0, snr=0.05, sets=16),
    SetKind("directional", images=64, views=1, snr=0.05),
    SetKind("general", images=64, views=8, snr=0.05, sets=2),
    SetKind("all-different", images=64, views=0, snr=0.05, sets=2),
)


@dataclass(frozen=True)
class Variant:
    """A network by the name it has in the table, and the question it answers; `changes` to the whole one's size."""

    name: str
    question: str
    changes: Mapping[str, Any]
    network: str = "polar-transformer"

    @property
    def settings(self) -> dict[str, Any]:
        """The key `network` of its recipe."""
        size = {"box": _SIZE["box"]} if self.network == "unet" else _SIZE
        return {"name": self.network, **size, **self.changes}


VARIANTS = (
    Variant(WHOLE, "what the others are held against", {}),
    Variant("plain attention", "angular or plain attention: no image is turned", {"attention": "plain"}),
    Variant("no likelihood", "attention by learned scores alone", {"likelihood": False}),
    Variant("no attention", "each image alone, as many convolutions", _ALONE, "polar-cnn"),
    Variant(
        "planar convolutions",
        "angular or 2-D convolutions on the polar plane",
        {"convolution": "planar", "channels": 4 * _RINGS},
    ),
    Variant(
        "no attention, planar convolutions",
        "the same for each image alone",
        {**_ALONE, "convolution": "planar", "channels": 4 * _RINGS},
        "polar-cnn",
    ),
    Variant("Cartesian U-Net", "polar or Cartesian, each image alone", {}, "unet"),
    Variant("bilinear rings", "radial-basis or bilinear resampling", {"basis": "bilinear"}),
    Variant("real rings in", "features without the Fourier rings", {"inputs": "real"}),
    Variant("Fourier rings in", "features without the real rings", {"inputs": "fourier"}),
    Variant("1 block", "depth: blocks of attention", {"attention_blocks": 1}),
    Variant("2 blocks", "depth: blocks of attention", {"attention_blocks": 2}),
    Variant("5 blocks", "depth: blocks of attention", {"attention_blocks": 5}),
    Variant("32 channels", "width", {"channels": 32}),
    Variant("128 channels", "width", {"channels": 128}),
)


def recipe_content(variant: Variant, images: int, seed: int, data: Path | None, cache: Path) -> dict[str, Any]:
    """The recipe by which a variant is trained: the same sets, loss, optimiser and number of images for all."""
    return {
        "task": "denoiser",
        "seed": seed,
        "network": variant.settings,
        "sets": SETS,
        "loss": {"guidance": 0.02},
        "data": None if data is None else str(data),
        "cache": str(cache),
        "validation": {"structures": 3, "kinds": [vars(kind) for kind in KINDS]},
        "training": {
            "images": images,
            "learning_rate": 2e-3,
            "precision": "auto",
            "warmup_images": images // 20,
            "decay_share": 0.4,
            "average_images": images // 20,
            "log_images": max(1, images // 40),
            "validate_images": max(1, images // 4),
        },
    }
