"""Runs ASPIRE's covariance Wiener filter; executed by the Python of ASPIRE's own environment, never imported.

    python peer_aspire_driver.py INPUT.npz OUTPUT.npz

INPUT holds images (n, L, L) of unit noise, pixel_size and one array a CTF parameter (n,); OUTPUT gets
denoised (n, L, L), seconds (covariance and filtering, the basis being there), set_up_seconds (basis) and the
version. ASPIRE's CTF is the negative of ours, so it is handed the negated images: their clean projections are
the same.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import aspire  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from aspire.basis import FFBBasis2D  # type: ignore[import-not-found,unused-ignore]
from aspire.denoising import DenoiserCov2D  # type: ignore[import-not-found,unused-ignore]
from aspire.operators import CTFFilter  # type: ignore[import-not-found,unused-ignore]
from aspire.source import ArrayImageSource  # type: ignore[import-not-found,unused-ignore]


def image_source(stack: Any) -> Any:
    """ASPIRE's source of the stack, with one filter for each distinct CTF."""
    columns = ("voltage", "defocus_u", "defocus_v", "defocus_angle", "spherical_aberration", "amplitude")
    table = np.stack([stack[name] for name in columns], axis=1)
    distinct, index = np.unique(table, axis=0, return_inverse=True)
    source = ArrayImageSource(-stack["images"], pixel_size=float(stack["pixel_size"]))
    source.unique_filters = [
        CTFFilter(
            voltage=voltage,
            defocus_u=u,
            defocus_v=v,
            defocus_ang=np.deg2rad(angle),
            Cs=spherical,
            alpha=amplitude,
        )
        for voltage, u, v, angle, spherical, amplitude in distinct
    ]
    source.filter_indices = index.reshape(-1)
    return source


def main(source_path: str, result_path: str) -> None:
    """Denoises twice with ASPIRE's default basis and keeps the faster time."""
    logging.disable(logging.WARNING)
    with np.load(source_path) as archive:
        stack = {name: archive[name] for name in archive.files}
    size = stack["images"].shape[1]
    started = time.perf_counter()
    basis = FFBBasis2D((size, size), dtype=np.float32)
    set_up = time.perf_counter() - started
    times = []
    for _ in range(2):
        source = image_source(stack)
        started = time.perf_counter()
        denoised = DenoiserCov2D(source, basis=basis, var_noise=1.0).denoise[:].asnumpy()
        times.append(time.perf_counter() - started)
    np.savez(
        result_path,
        denoised=denoised.astype(np.float32),
        seconds=min(times),
        set_up_seconds=set_up,
        version=aspire.__version__,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
