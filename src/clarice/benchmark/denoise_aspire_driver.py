"""Runs ASPIRE's class averages; executed by the Python of ASPIRE's own environment, never imported.

    python denoise_aspire_driver.py INPUT.npz OUTPUT.npz

INPUT and OUTPUT are those of `peer_aspire_driver.py`: `denoised` holds, for each image, the average of its nearest
neighbours turned on to it. Images with a CTF are phase-flipped first, as ASPIRE's own pipelines do.
"""

from __future__ import annotations

import logging
import sys
import time

import aspire  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from aspire.basis import FFBBasis2D  # type: ignore[import-not-found,unused-ignore]
from aspire.classification import RIRClass2D  # type: ignore[import-not-found,unused-ignore]
from aspire.denoising import LegacyClassAvgSource  # type: ignore[import-not-found,unused-ignore]
from peer_aspire_driver import image_source  # type: ignore[import-not-found,unused-ignore]

try:
    from aspire.classification import TopClassSelector  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from aspire.denoising import TopClassSelector  # type: ignore[import-not-found,unused-ignore]

NEIGHBOURS = 20
COMPONENTS, BISPECTRUM_COMPONENTS = 400, 300


def main(source_path: str, result_path: str) -> None:
    """Averages every image with its neighbours, with as many components as ASPIRE takes or the set has."""
    logging.disable(logging.WARNING)
    with np.load(source_path) as archive:
        stack = {name: archive[name] for name in archive.files}
    images = stack["images"]
    count, size = images.shape[:2]
    basis = FFBBasis2D((size, size), dtype=np.float32)
    with_ctf = bool(np.any(stack["defocus_u"] != 0))
    source = image_source(stack)
    started = time.perf_counter()
    if with_ctf:
        source = source.phase_flip()
    neighbours = min(NEIGHBOURS, count - 1)
    classifier = RIRClass2D(
        source,
        fspca_components=min(COMPONENTS, basis.count // 2, count),
        bispectrum_components=min(BISPECTRUM_COMPONENTS, count - 1),
        n_nbor=neighbours,
        large_pca_implementation="legacy",
        nn_implementation="sklearn",
        bispectrum_implementation="legacy",
    )
    averages = LegacyClassAvgSource(source, n_nbor=neighbours, classifier=classifier, class_selector=TopClassSelector())
    denoised = averages.images[:].asnumpy()
    seconds = time.perf_counter() - started
    # The images were handed over negated with the negative of the CTF: without phase flipping they stay negative.
    sign = 1.0 if with_ctf else -1.0
    np.savez(
        result_path,
        denoised=(sign * denoised).astype(np.float32),
        seconds=seconds,
        set_up_seconds=0.0,
        version=aspire.__version__,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
