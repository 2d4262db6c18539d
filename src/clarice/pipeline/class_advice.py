"""How many 2D classes a stack can fill, and how many images the joint denoiser put together for each of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clarice.io.star import floats, integers, read_star
from clarice.pipeline.defocus_snr import COARSEST_ANGSTROM

# More classes than this take long, and nobody looks through them.
MOST_CLASSES = 200
# A class of fewer aligns its members to their own noise.
FEWEST_IN_CLASS = 20
# A number of classes within this factor of the one advised is right.
NEAR_ENOUGH = 1.5
# Standard errors that an SNR must stand above 0 to be told from it.
CERTAIN = 3.0


@dataclass(frozen=True)
class ClassAdvice:
    """What became of `asked` classes, and how many to ask for.

    `members` of the classes that were kept, the largest first. `fill`: particles of one view whose average has as much
    signal as noise near 20 Å, None where no signal is told there. `views`: how many directions lie apart by as much as
    20 Å makes across the particle. `advised` classes, for all `total` particles, None where `fill` is.
    """

    asked: int
    total: int
    members: tuple[int, ...]
    fill: int | None
    views: int
    advised: int | None

    @property
    def fits(self) -> bool:
        """Whether `asked` is near enough to what is advised."""
        return self.advised is not None and self.advised / NEAR_ENOUGH <= self.asked <= self.advised * NEAR_ENOUGH


@dataclass(frozen=True)
class Neighbours:
    """Of the median image: the weight it kept for itself, and the images its other weights amount to.

    `effective` is 1 / Σ w² of the weights of other images, scaled to a sum of 1, with what is not listed spread over
    images of the least weight listed: a lower bound. Weights are shares of attention, not of an average.
    """

    kept_weight: float
    effective: float


def particles_to_fill(snr: float, error: float, disk_share: float) -> int | None:
    """Aligned particles whose average has SNR 1 in the disk; None where the SNR is not told from 0.

    `snr` and its `error` are over the whole box, `disk_share` is the disk's area over the box's: the signal is inside,
    the noise everywhere.
    """
    if not (snr > CERTAIN * error and snr > 0):
        return None
    return max(1, math.ceil(disk_share / snr))


def distinct_views(diameter_angstrom: float, symmetry_order: int) -> int:
    """Directions that differ, at 20 Å, across a particle of this diameter: 4π / (20 Å / D)² over the group's order.

    Two views are one where no point of the particle lies further from where it was than the detail that is looked at
    (Crowther et al. 1970, Proc. R. Soc. A 317:319). Mirrored ones count apart, as classes are not mirrored.
    """
    return max(1, round(4 * math.pi * (diameter_angstrom / COARSEST_ANGSTROM) ** 2 / symmetry_order))


def class_advice(selection: dict[str, Any], asked: int, fill: int | None, views: int) -> ClassAdvice:
    """From the record of the selection: as many classes as `fill`, or 20, particles each allow, at most `views` or 200.

    Particles that selection left out need classes of their own, in proportion.
    """
    members = sorted((int(row["kept"]) for row in selection["classes"] if row["kept"]), reverse=True)
    kept, total = int(selection["kept"]), int(selection["total"])
    advised = None
    if fill is not None:
        wanted = min(kept / max(fill, FEWEST_IN_CLASS), views) * total / max(kept, 1)
        advised = int(np.clip(round(wanted), 1, min(MOST_CLASSES, total)))
    return ClassAdvice(asked, total, tuple(members), fill, views, advised)


def neighbours(path: Path) -> Neighbours | None:
    """From `denoised_sources.star`; None where there is none, because the method has no sources, or none are listed."""
    if not path.is_file():
        return None
    blocks = read_star(path)
    own, listed = blocks.get("particles"), blocks.get("sources")
    if own is None or listed is None or not len(listed):
        return None
    kept = floats(own, "clariceKeptWeight", str(path))
    row = integers(listed, "clariceRow", str(path)).astype(np.int64) - 1
    weight = floats(listed, "clariceSourceWeight", str(path))
    known = np.isfinite(kept)
    squares, total = (np.bincount(row, values, minlength=len(kept)) for values in (weight**2, weight))
    least = np.full(len(kept), np.inf)
    np.minimum.at(least, row, weight)
    least[np.isinf(least)] = 0.0
    squares += np.maximum(1 - kept - total, 0) * least
    effective = np.divide((1 - kept) ** 2, squares, out=np.zeros(len(kept)), where=squares > 0)
    return Neighbours(float(np.median(kept[known])), float(np.median(effective[known]))) if known.any() else None
