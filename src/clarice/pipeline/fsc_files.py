"""The FSC of half maps, as STAR for programs and as JSON for the report, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from clarice.io.star import write_star
from clarice.metrics.half_maps import HalfMapCurves, half_map_fsc, noise_null
from clarice.metrics.shells import finest_angstrom, resolution_at, shell_frequencies
from clarice.pipeline.durable import write_json

THRESHOLDS = (0.143, 0.5)
ONE_MAP = (
    "the two half maps are the same map: their half sets hold the same images, so the FSC says nothing about the "
    "resolution; remove the copies or assign the half sets anew"
)


@dataclass(frozen=True)
class Stated:
    """The resolution at FSC 0.143, in Å and in words, and the curves it is read from."""

    resolution_angstrom: float
    words: str
    curves: HalfMapCurves


def resolution_text(
    resolution_angstrom: float, pixel_size_angstrom: float, digits: int = 1, finest: float | None = None
) -> str:
    """A resolution in Å in words; where the curve never fell below its threshold, that it is Nyquist or beyond, or
    `finest`, Å, the resolution of the last shell measured.
    """
    nyquist = 2 * pixel_size_angstrom
    if resolution_angstrom <= nyquist * (1 + 1e-9):
        return f"at or beyond Nyquist ({nyquist:.{digits}f} Å)"
    if finest is not None and resolution_angstrom <= finest * (1 + 1e-9):
        return f"at or beyond {finest:.{digits}f} Å, the last shell measured,"
    return f"{resolution_angstrom:.{digits}f} Å"


def write_fsc(
    folder: Path,
    halves: tuple[NDArray[np.float32], NDArray[np.float32]],
    mask: NDArray[np.float32],
    pixel_size_angstrom: float,
    seed: int,
    last_shell: int | None = None,
) -> Stated:
    """Writes `fsc.star` and `fsc.json` into `folder`; returns what they state.

    It is where the mask-corrected curve first falls below 0.143. Shells beyond `last_shell` were not measured:
    there the mask leaves nothing but what it leaked, so every curve is zero.
    """
    box = mask.shape[-1]
    last_shell = box // 2 if last_shell is None else last_shell
    curves = half_map_fsc(*halves, mask, torch.Generator().manual_seed(seed), last_shell)
    null = noise_null(box, torch.Generator().manual_seed(seed), mask)
    frequencies = shell_frequencies(box, pixel_size_angstrom)
    resolution = {
        str(threshold): resolution_at(curves.corrected, threshold, pixel_size_angstrom, box, last_shell)
        for threshold in THRESHOLDS
    }
    finest = finest_angstrom(box, pixel_size_angstrom, last_shell)
    write_json(
        folder / "fsc.json",
        {
            "box": box,
            "pixel_size_angstrom": pixel_size_angstrom,
            "nyquist_angstrom": 2 * pixel_size_angstrom,
            "finest_angstrom": finest,
            "resolution_angstrom": resolution,
            "curves": {
                "unmasked": curves.unmasked.tolist(),
                "masked": curves.masked.tolist(),
                "phase_randomised": curves.phase_randomised.tolist(),
                "corrected": curves.corrected.tolist(),
                "noise_null": null.tolist(),
            },
            "randomised_from": curves.randomised_from,
            "last_shell": last_shell,
            "spatial_frequency_per_angstrom": frequencies.tolist(),
        },
    )
    write_star(folder / "fsc.star", {"fsc": _table(curves, frequencies)})
    words = resolution_text(resolution["0.143"], pixel_size_angstrom, finest=finest)
    return Stated(resolution["0.143"], words, curves)


def _table(curves: HalfMapCurves, frequencies: NDArray[np.float64]) -> pd.DataFrame:
    """RELION's post-processing columns; masked and randomised curves are of maps with equal power in all shells."""
    angstrom = np.divide(1.0, frequencies, out=np.full_like(frequencies, 999.0), where=frequencies > 0)
    return pd.DataFrame(
        {
            "rlnSpectralIndex": np.arange(len(frequencies)),
            "rlnResolution": frequencies,
            "rlnAngstromResolution": angstrom,
            "rlnFourierShellCorrelationCorrected": curves.corrected,
            "rlnFourierShellCorrelationUnmaskedMaps": curves.unmasked,
            "rlnFourierShellCorrelationMaskedMaps": curves.masked,
            "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": curves.phase_randomised,
        }
    )
