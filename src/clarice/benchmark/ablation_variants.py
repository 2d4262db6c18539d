"""What `ablations` trains: a small polar transformer, and the same with one thing taken away, exchanged or resized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarice.core.errors import UsageError
from clarice.training.validation import SetKind

# What each variant is trained and judged on, unless a call says otherwise.
IMAGES, STRUCTURES = 60_000, 6
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
# 6 planes of 5 × 5 kernels on 23 rings: 20,700 products an angle and convolution, where 64 × 64 × 5 make 20,480.
_PLANAR = {"convolution": "planar", "channels": 6 * _RINGS, "heads": 6}
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
    """A network by the name it has in the table, and the question it answers; `changes` to the whole one's size.

    Its error is held against that of the variant `against`, from which it differs in one thing.
    """

    name: str
    question: str
    changes: Mapping[str, Any]
    network: str = "polar-transformer"
    against: str = WHOLE

    @property
    def settings(self) -> dict[str, Any]:
        """The key `network` of its recipe."""
        size = {"box": _SIZE["box"]} if self.network == "unet" else _SIZE
        return {"name": self.network, **size, **self.changes}


_NO_ATTENTION, _NO_LIKELIHOOD = "no attention", "no likelihood"
VARIANTS = (
    Variant(WHOLE, "what most others are held against", {}),
    Variant("plain attention", "angular or plain attention: no image is turned", {"attention": "plain"}),
    Variant(_NO_LIKELIHOOD, "attention by learned scores alone", {"likelihood": False}),
    Variant(_NO_ATTENTION, "each image alone, as many convolutions", _ALONE, "polar-cnn"),
    Variant("planar convolutions", "angular or 2-D convolutions on the polar plane", _PLANAR),
    Variant(
        "planar convolutions without attention",
        "the same for each image alone",
        {**_ALONE, **_PLANAR},
        "polar-cnn",
        _NO_ATTENTION,
    ),
    Variant("Cartesian U-Net", "polar or Cartesian, each image alone", {}, "unet", _NO_ATTENTION),
    Variant("bilinear rings", "radial-basis or bilinear resampling", {"basis": "bilinear"}),
    Variant("Fourier rings alone", "rings of both spaces or of Fourier space", {"inputs": "fourier"}),
    Variant(
        "real rings alone",
        "rings of both spaces or of real space, neither with the likelihood",
        {"inputs": "real", "likelihood": False},
        against=_NO_LIKELIHOOD,
    ),
    Variant("1 block", "depth: blocks of attention", {"attention_blocks": 1}),
    Variant("2 blocks", "depth: blocks of attention", {"attention_blocks": 2}),
    Variant("5 blocks", "depth: blocks of attention", {"attention_blocks": 5}),
    Variant("32 channels", "width", {"channels": 32}),
    Variant("128 channels", "width", {"channels": 128}),
)


def chosen_variants(names: Sequence[str] | None) -> tuple[Variant, ...]:
    """The variants of such names, with those they are held against; all without names.

    Raises UsageError for a name unknown, or for none.
    """
    if names is None:
        return VARIANTS
    known = {variant.name: variant for variant in VARIANTS}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"--variants {', '.join(unknown) or 'names none'}: use some of {', '.join(known)}")
    wanted = {*names}
    while True:
        more = {known[name].against for name in wanted} | wanted
        if more == wanted:
            return tuple(variant for variant in VARIANTS if variant.name in wanted)
        wanted = more


def recipe_content(variant: Variant, images: int, seed: int, data: Path | None, cache: Path) -> dict[str, Any]:
    """The recipe by which a variant is trained: the same sets, loss, optimiser and number of images for all."""
    return {
        "task": "denoiser",
        "seed": seed,
        "network": variant.settings,
        "sets": SETS,
        "loss": {"guidance": 0.02},
        "data": None if data is None else str(data),
        "molecules": data is None,
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
