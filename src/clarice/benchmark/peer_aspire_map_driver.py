"""Runs ASPIRE's ab initio route; executed by the Python of ASPIRE's own environment, never imported.

    python peer_aspire_map_driver.py INPUT.npz OUTPUT.npz

INPUT is that of `peer_aspire_driver`. As in ASPIRE's own pipeline, images are phase-flipped (which undoes the sign they
are handed over with) and averaged with their nearest neighbours, aligned in angle and shift; the averages of the first
100 images are laid by common lines and voting, and put together. Its usual selector, which takes the best averages,
makes all of them first, in many times the time. OUTPUT gets volume (L, L, L), seconds and the version.
"""

from __future__ import annotations

import logging
import sys
import time

import aspire  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from aspire.abinitio import CLSyncVoting  # type: ignore[import-not-found,unused-ignore]
from aspire.classification import TopClassSelector  # type: ignore[import-not-found,unused-ignore]
from aspire.denoising import LegacyClassAvgSource  # type: ignore[import-not-found,unused-ignore]
from aspire.reconstruction import MeanEstimator  # type: ignore[import-not-found,unused-ignore]
from aspire.source import OrientedSource  # type: ignore[import-not-found,unused-ignore]
from peer_aspire_driver import image_source  # type: ignore[import-not-found,unused-ignore]

NEIGHBOURS, AVERAGES, ANGLES, LARGEST_SHIFT = 20, 100, 180, 0.15


def main(source_path: str, result_path: str) -> None:
    """From a stack to a map, with ASPIRE's defaults but for fewer neighbours and averages: the set is small."""
    logging.disable(logging.WARNING)
    with np.load(source_path) as archive:
        stack = {name: archive[name] for name in archive.files}
    source = image_source(stack)
    started = time.perf_counter()
    source = source.phase_flip().cache()
    selector = TopClassSelector()
    averages = LegacyClassAvgSource(source, n_nbor=NEIGHBOURS, class_selector=selector)[:AVERAGES].cache()
    orientation = CLSyncVoting(averages, n_theta=ANGLES, max_shift=LARGEST_SHIFT)
    volume = MeanEstimator(OrientedSource(averages, orientation)).estimate()
    seconds = time.perf_counter() - started
    np.savez(
        result_path,
        volume=np.asarray(volume.asnumpy(), dtype=np.float32).reshape((stack["images"].shape[1],) * 3),
        seconds=seconds,
        version=aspire.__version__,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
