"""Poses of denoised images by common lines: centred, laid where their rays fit best, and made exact by single lines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clarice.abinitio.common_lines import CommonLines, lines_near
from clarice.abinitio.line_scores import LineSettings
from clarice.abinitio.line_shifts import mass_centres, moved, shifts_along_lines
from clarice.abinitio.orientation_search import LineTable, search_orientations
from clarice.abinitio.rays import CLEAN_SNR
from clarice.abinitio.synchronize import Synchronized, consensus
from clarice.core.particles import Poses
from clarice.core.progress import Progress, silent

# How far off their centres of mass leave denoised images, at most.
CENTRED_WITHIN_PX = 1.0
# Images with less than this share of the lines that support one in the median fit nowhere.
LEAST_SUPPORT = 0.3


@dataclass(frozen=True)
class LinePoses:
    """`poses` of the images, shifts in pixels; the `lines` nearest to them, and how far these agree, `found`.

    `gain`: the logarithm of how much more probable all rays are with these orientations than with random ones.
    """

    poses: Poses
    lines: CommonLines
    found: Synchronized
    gain: float

    def outliers(self) -> NDArray[np.bool_]:
        """Images that hardly any line supports where they were laid, beside the others: (n,)."""
        support = self.found.support()
        return np.asarray(support < LEAST_SUPPORT * support.median())


def poses_from_lines(
    images: Tensor,
    settings: LineSettings,
    snr: Tensor | float = CLEAN_SNR,
    *,
    starts: int = 2,
    symmetry: str = "C1",
    seed: int = 0,
    progress: Progress = silent,
) -> LinePoses:
    """Poses of images (n, L, L) free of CTF and on a background of 0, up to one rotation, move and hand of them all.

    With a `max_shift_px` above 0 images are centred by their mass first, by so much in x and y at most. `snr` as for
    `find_common_lines`; `starts`, `symmetry` and `seed` as for `search_orientations`. Raises ValueError for fewer than
    three images.
    """
    if len(images) < 3:
        raise ValueError("orientations need three or more images")
    centre = images.new_zeros((len(images), 2)).double()
    if settings.max_shift_px > 0:
        masses = mass_centres(images, settings.diameter_px, settings.max_shift_px)
        images, centre = moved(images, -masses), masses.double()
        settings = replace(settings, max_shift_px=min(settings.max_shift_px, CENTRED_WITHIN_PX))
    oriented = search_orientations(LineTable.of(images, settings, snr, progress), starts, symmetry, seed, progress)
    lines = lines_near(images, oriented.rotations, settings, snr, progress)
    found = consensus(lines, start=oriented.rotations, progress=progress)
    if settings.max_shift_px > 0:
        centre = centre + shifts_along_lines(found, lines.shift_px)
    return LinePoses(Poses(np.asarray(found.rotations), -centre.numpy()), lines, found, oriented.gain)
