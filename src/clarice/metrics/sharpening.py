"""Maps with the contrast of their details restored, as far as the half maps vouch for them.

Amplitudes of density fall with frequency faster than those of a structure: motion, wrong poses and the detector blur by
e^{−B k² / 4}. B is read off where spectra of proteins are flat, beyond 10 Å (Guinier plot; Rosenthal, Henderson 2003,
J. Mol. Biol. 333:721), undone, and every shell multiplied by how well the mean of the half maps follows the truth,
√(2 FSC / (1 + FSC)) (their eq. 10).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarice.metrics.shells import (
    FIRST_TELLING_SHELL,
    HALF_MAP_THRESHOLD,
    as_array,
    half_shells,
    shell_frequencies,
    shell_power,
)

FloatArray = NDArray[np.float64]

# Coarser than this a spectrum tells of the particle's shape.
GUINIER_FROM_ANGSTROM = 10.0
# A line through fewer shells, or through a narrower range of frequencies, is not a fit.
FEWEST_SHELLS, LEAST_RANGE = 5, 1.5


def truth_correlation(curve: ArrayLike) -> FloatArray:
    """Correlation of the mean of two half maps with the truth, by shell, from their FSC `curve`: √(2 F / (1 + F)).

    Half of it where the curve first falls below 0.143, 0 beyond: what agrees again is not trusted. A dip among the
    first shells, which hold few elements, is passed over.
    """
    values = np.clip(np.nan_to_num(as_array(curve)), 0.0, 1.0)
    first = min(FIRST_TELLING_SHELL, len(values) - 1)
    values[:first] = np.maximum(values[:first], values[first])
    weight = np.sqrt(2 * values / (1 + values))
    fallen = np.flatnonzero(values < HALF_MAP_THRESHOLD)
    if len(fallen):
        weight[fallen[0]] /= 2
        weight[fallen[0] + 1 :] = 0
    return weight


def guinier_b_factor(
    volume: ArrayLike, pixel_size_angstrom: float, curve: ArrayLike, resolution_angstrom: float
) -> float | None:
    """B in Å², above 0 where amplitudes decay, from the spectrum between 10 Å and the resolution.

    Of the mean of two halves (L, L, L) with FSC `curve` (L // 2 + 1,), of whose power the share 2 F / (1 + F) is
    signal. None where fewer than 5 shells lie there, or the resolution is not 1.5 times as fine.
    """
    values = as_array(volume)
    box = values.shape[-1]
    power = shell_power(np.fft.rfftn(values))[: box // 2 + 1] * truth_correlation(curve) ** 2
    frequency = shell_frequencies(box, pixel_size_angstrom)
    used = (frequency >= 1 / GUINIER_FROM_ANGSTROM) & (frequency <= 1 / resolution_angstrom) & (power > 0)
    if np.count_nonzero(used) < FEWEST_SHELLS or resolution_angstrom > GUINIER_FROM_ANGSTROM / LEAST_RANGE:
        return None
    slope = np.polyfit(frequency[used] ** 2, 0.5 * np.log(power[used]), 1)[0]
    return float(-4 * slope)


def sharpened(
    volume: ArrayLike, pixel_size_angstrom: float, curve: ArrayLike, b_factor: float = 0.0
) -> NDArray[np.float32]:
    """A map (L, L, L), the mean of two halves with FSC `curve` (L // 2 + 1,), less a blur of `b_factor` Å².

    Raises ValueError for a curve that does not belong to the box.
    """
    values, weight = as_array(volume), truth_correlation(curve)
    box = values.shape[-1]
    if len(weight) != box // 2 + 1:
        raise ValueError(f"a curve of {len(weight)} shells does not belong to a box of {box} px")
    shells, _ = half_shells(box, 3)
    gain = weight * np.exp(b_factor / 4 * shell_frequencies(box, pixel_size_angstrom) ** 2)
    beyond = np.append(gain, 0.0)  # corners hold no whole shell
    spectrum = np.fft.rfftn(values) * beyond[np.minimum(shells, box // 2 + 1)]
    return np.asarray(np.fft.irfftn(spectrum, s=values.shape, axes=(0, 1, 2)), dtype=np.float32)
