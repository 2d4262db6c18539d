"""Runs ASPIRE's common lines and voting; executed by the Python of ASPIRE's own environment, never imported.

    python peer_aspire_lines_driver.py INPUT.npz OUTPUT.npz

INPUT holds images (n, L, L), n_angles of a circle and max_shift_px, by which each image is moved at most. OUTPUT gets
angle_rad (n, n), the direction from +x towards +y in image i of the line it shares with image j; rotations (n, 3, 3)
from the molecule to the view, of either hand; lines_seconds and seconds, of the lines and of all; and the version.
"""

from __future__ import annotations

import logging
import math
import sys
import time

import aspire  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from aspire.abinitio import CLSyncVoting  # type: ignore[import-not-found,unused-ignore]
from aspire.source import ArrayImageSource  # type: ignore[import-not-found,unused-ignore]


def main(source_path: str, result_path: str) -> None:
    """Lines with ASPIRE's default weights and steps, then its default synchronisation."""
    logging.disable(logging.WARNING)
    with np.load(source_path) as archive:
        images = archive["images"]
        n_angles, max_shift_px = int(archive["n_angles"]), float(archive["max_shift_px"])
    # ASPIRE's is the most that two rays are moved against each other, the share of the box rounded up to whole pixels.
    difference_px = math.ceil(2 * max_shift_px)
    share = max(0.0, difference_px - 0.5) / images.shape[-1]
    source = ArrayImageSource(images, pixel_size=1.0)
    method = CLSyncVoting(source, n_theta=n_angles, max_shift=share, shift_step=1)
    started = time.perf_counter()
    lines = method.clmatrix
    lines_seconds = time.perf_counter() - started
    # ASPIRE's rotations take the view to the molecule.
    rotations = np.swapaxes(np.asarray(method.rotations), 1, 2)
    np.savez(
        result_path,
        angle_rad=np.where(lines < 0, 0, lines) * (2 * np.pi / n_angles),
        rotations=rotations,
        lines_seconds=lines_seconds,
        seconds=time.perf_counter() - started,
        version=aspire.__version__,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
