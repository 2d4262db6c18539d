"""How good denoised sets are: of each set, then over a structure's sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clarice.benchmark.denoise_sets import Images, ImageSet
from clarice.core.particles import spread_rows
from clarice.metrics.image import image_scores, inscribed_disk
from clarice.metrics.shells import frc, resolution_at

FloatArray = NDArray[np.float64]
# PSNR, SSIM and FRC are means over at most so many images of a set; the relative error is over all of them.
SCORED_IMAGES = 64


@dataclass(frozen=True)
class Answer:
    """What a method made of a set: `images` (n, L, L), in the units of the clean ones, and the seconds it took.

    Where it sorts or aligns: `label` (n,), the class of each image, `angle_rad` (n,), the angle that turns its class
    on to it, and `remarks`, further figures for the table.
    """

    images: Images
    seconds: float
    label: NDArray[np.int64] | None = None
    angle_rad: FloatArray | None = None
    remarks: dict[str, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class SetScores:
    """Squared error and power of a set inside the disk; means of PSNR, SSIM, and FRC with the truth (L // 2 + 1,)."""

    images: int
    squared_error: float
    truth_power: float
    output_power: float
    psnr_db: float
    ssim: float
    frc: FloatArray


def score(answer: Answer, truth: ImageSet) -> SetScores:
    """The scores of a set."""
    disk = inscribed_disk(truth.box)
    found, clean = answer.images[:, disk].astype(np.float64), truth.clean[:, disk].astype(np.float64)
    rows = spread_rows(np.arange(len(truth)), SCORED_IMAGES)
    sampled = image_scores(answer.images[rows], truth.clean[rows])
    return SetScores(
        len(truth),
        float(((found - clean) ** 2).sum()),
        float((clean**2).sum()),
        float((found**2).sum()),
        float(sampled.psnr_db.mean()),
        float(sampled.ssim.mean()),
        frc(answer.images[rows], truth.clean[rows]).mean(axis=0),
    )


def output_power(images: Images) -> float:
    """Mean over images of their power inside the disk."""
    return float((images[:, inscribed_disk(images.shape[-1])].astype(np.float64) ** 2).sum() / len(images))


def over_sets(scores: Sequence[SetScores]) -> dict[str, float]:
    """The figures of one structure. FRC is given by the frequency, per pixel, at which its mean falls below."""
    box = 2 * (len(scores[0].frc) - 1)
    curve = np.mean([one.frc for one in scores], axis=0)
    return {
        "relative_mse": sum(one.squared_error for one in scores) / sum(one.truth_power for one in scores),
        "psnr_db": float(np.mean([one.psnr_db for one in scores])),
        "ssim": float(np.mean([one.ssim for one in scores])),
        "frc_05": 1 / resolution_at(curve, 0.5, 1.0, box),
        "frc_0143": 1 / resolution_at(curve, 0.143, 1.0, box),
        "output_power": sum(one.output_power for one in scores) / sum(one.images for one in scores),
    }


def fitted_to(images: Images, truth: ImageSet) -> Images:
    """Images times the one factor that brings the set nearest to its truth: a favour to whoever has its own units."""
    disk = inscribed_disk(truth.box)
    found, clean = images[:, disk].astype(np.float64), truth.clean[:, disk].astype(np.float64)
    power = float((found**2).sum())
    return images * np.float32((found * clean).sum() / power if power > 0 else 0.0)
