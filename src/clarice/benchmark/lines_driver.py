"""Our common lines in a process of their own, so that time and memory are theirs alone.

    python -m clarice.benchmark.lines_driver INPUT.npz OUTPUT.npz

INPUT and OUTPUT are those of `peer_aspire_lines_driver`; INPUT holds diameter_px and noise_variance of a pixel as well,
OUTPUT the mean confidence of the lines.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.common_lines import find_common_lines, lines_near
from clarice.abinitio.line_scores import LineSettings
from clarice.abinitio.orientation_search import LineTable, search_orientations
from clarice.abinitio.rays import CLEAN_SNR, Rays
from clarice.abinitio.synchronize import consensus
from clarice.core.parallel import run_operations_alone
from clarice.metrics.masks import soft_sphere


def signal_to_noise(images: Tensor, window: Tensor, noise_variance: float, settings: LineSettings) -> Tensor | float:
    """Of the Fourier coefficients of each radius, where the noise is white and was cut to a window (L, L)."""
    if noise_variance == 0:
        return CLEAN_SNR
    power = Rays.sampled(images, settings.radius_px(images.shape[-1]), 60).mean_power()
    return (power / (noise_variance * float(window.square().sum())) - 1).clamp(1e-3, CLEAN_SNR)


def main(source_path: str, result_path: str) -> None:
    """Finds the best line of each pair, timed by itself, and then the rotations from the likelihood of all rays.

    The search for rotations has no use for those lines. Noisy images have no mass to be centred on: moves along lines
    are looked for as far as the images are moved.
    """
    run_operations_alone()
    with np.load(source_path) as archive:
        images = torch.from_numpy(archive["images"]).float()
        given = {name: float(archive[name]) for name in ("diameter_px", "noise_variance", "max_shift_px", "n_angles")}
    shift = given["max_shift_px"]
    settings = LineSettings(given["diameter_px"], n_angles=int(given["n_angles"]), max_shift_px=shift)
    started = time.perf_counter()
    window = torch.from_numpy(soft_sphere(images.shape[-1], 0.55 * given["diameter_px"] + shift, 3.0, ndim=2))
    images = images * window
    snr = signal_to_noise(images, window, given["noise_variance"], settings)
    lines = find_common_lines(images, settings, snr)
    lines_seconds = time.perf_counter() - started
    oriented = search_orientations(LineTable.of(images, settings, snr))
    found = consensus(lines_near(images, oriented.rotations, settings, snr), start=oriented.rotations)
    np.savez(
        result_path,
        angle_rad=lines.angle_rad.numpy(),
        confidence=float(lines.confidence.sum()) / (len(lines) * (len(lines) - 1)),
        rotations=found.rotations.numpy(),
        lines_seconds=lines_seconds,
        seconds=time.perf_counter() - started,
        version="",
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
