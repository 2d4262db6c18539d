"""What half maps of N particles say about more or fewer: the FSC and the resolution at another number of particles.

Signal adds up with every particle and noise averages out, so the spectral signal-to-noise ratio of a map grows as the
number of particles while orientations are as accurate as they are. Of the mean of two half maps it is SSNR = 2 F /
(1 − F). Where it falls with frequency k as exp(−B k² / 2), the number of particles needed for a resolution d obeys
ln N = constant + B / (2 d²) (Rosenthal, Henderson 2003, J. Mol. Biol. 333:721), the straight line of a ResLog plot
(Stagg et al. 2014, J. Struct. Biol. 185:418).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit

from clarice.metrics.sharpening import FEWEST_SHELLS, GUINIER_FROM_ANGSTROM, LEAST_RANGE
from clarice.metrics.shells import (
    FIRST_TELLING_SHELL,
    HALF_MAP_THRESHOLD,
    as_array,
    finest_angstrom,
    resolution_at,
    shell_frequencies,
)

FloatArray = NDArray[np.float64]

# Shells beyond the resolution that still count in the fit: their FSC near 0 tells how steep the fall is.
FITTED_BEYOND = 1.25
# A slope less sure than this share of itself predicts nothing.
LARGEST_ERROR = 0.5
# FSC near 1 has next to no error by chance; what the model misses has.
LEAST_SPREAD = 0.05


@dataclass(frozen=True)
class FallOff:
    """The slope of −ln SSNR against k², Å², with its standard error; both from a fit to the FSC.

    `beyond_10_angstrom` says that the fit is of frequencies where spectra of proteins are flat: then twice the slope
    is the B-factor of map and poses together.
    """

    slope_angstrom2: float
    error_angstrom2: float
    beyond_10_angstrom: bool

    @property
    def b_factor_angstrom2(self) -> float | None:
        """Rosenthal and Henderson's B, Å²; None where the fit tells of the particle's shape instead."""
        return 2 * self.slope_angstrom2 if self.beyond_10_angstrom else None


@dataclass(frozen=True)
class Prediction:
    """The resolution (Å, FSC 0.143) that `ratio` times the particles would give.

    `resolution_angstrom` is None where it cannot be told; `error_angstrom` is what the slope's standard error makes of
    it, 0 where nothing was extrapolated. `limited`: the FSC stays up to the last shell, so the box sets the limit.
    """

    ratio: float
    resolution_angstrom: float | None
    error_angstrom: float
    limited: bool


def spectral_snr(curve: ArrayLike) -> FloatArray:
    """SSNR of the mean of two half maps, from their FSC (S,): 2 F / (1 − F); infinite where they are one, 0 below 0."""
    values = np.clip(np.nan_to_num(as_array(curve)), 0.0, 1.0)
    return np.divide(2 * values, 1 - values, out=np.full_like(values, np.inf), where=values < 1)


def fsc_of_more_particles(curve: ArrayLike, ratio: float) -> FloatArray:
    """The half maps' FSC (S,) at `ratio` times the particles, orientations as accurate as they are.

    SSNR times the ratio, so F' = r F / (1 − F + r F). Raises ValueError for a ratio that is not above 0.
    """
    if not ratio > 0:
        raise ValueError(f"the ratio {ratio} of particles must be above 0")
    values = np.clip(np.nan_to_num(as_array(curve)), 0.0, 1.0)
    return ratio * values / (1 - values + ratio * values)


def fitted_fall_off(
    curve: ArrayLike, pixel_size_angstrom: float, box: int, last_shell: int | None = None
) -> FallOff | None:
    """The fall of the half maps' FSC (L // 2 + 1,), fitted as F = 1 / (1 + exp(b k² − a)), that is ln SSNR = a − b k².

    Beyond 10 Å where five shells lie there and the resolution is 1.5 times as fine, else from the third shell on. None
    where the curve does not fall below 0.143, or the slope is not sure to half of itself.
    """
    values = np.nan_to_num(as_array(curve))
    last = box // 2 if last_shell is None else last_shell
    resolution = resolution_at(values, HALF_MAP_THRESHOLD, pixel_size_angstrom, box, last)
    if resolution <= finest_angstrom(box, pixel_size_angstrom, last) * (1 + 1e-6):
        return None
    frequency = shell_frequencies(box, pixel_size_angstrom)
    shells = np.arange(len(frequency))
    used = (shells >= FIRST_TELLING_SHELL) & (shells <= last) & (frequency * resolution <= FITTED_BEYOND)
    flat = used & (frequency >= 1 / GUINIER_FROM_ANGSTROM)
    beyond = np.count_nonzero(flat) >= FEWEST_SHELLS and resolution <= GUINIER_FROM_ANGSTROM / LEAST_RANGE
    used = flat if beyond else used
    if np.count_nonzero(used) < FEWEST_SHELLS:
        return None
    found = _logistic(frequency[used] * resolution, values[used], shells[used])
    if found is None or not found[0] > 0 or found[1] > LARGEST_ERROR * found[0]:
        return None
    return FallOff(found[0] * resolution**2, found[1] * resolution**2, bool(beyond))


def _logistic(frequency: FloatArray, values: FloatArray, shells: NDArray[np.int64]) -> tuple[float, float] | None:
    """Slope against squared frequency and its error, from FSC values (s,); a shell counts by how many elements it has.

    The error of an FSC is (1 − F²) / √n with n elements, n as the shell squared; F is the true one, so it fits twice.
    """

    def model(x: FloatArray, level: float, slope: float) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(np.clip(slope * x - level, -50, 50))))

    squared, expected = frequency**2, np.clip(values, 0.0, 1.0)
    start = np.array([2.0, 3.8])  # 0.143 at frequency 1, the resolution
    try:
        for _ in range(2):
            spread = np.maximum(1 - expected**2, LEAST_SPREAD) / shells
            start, covariance = curve_fit(model, squared, values, start, sigma=spread, maxfev=2000)
            expected = model(squared, *start)
    except RuntimeError:
        return None
    error = math.sqrt(covariance[1, 1]) if np.isfinite(covariance[1, 1]) else math.inf
    return float(start[1]), error


def predicted_resolutions(
    curve: ArrayLike,
    ratios: Sequence[float],
    pixel_size_angstrom: float,
    box: int,
    last_shell: int | None = None,
    fall_off: FallOff | None = None,
) -> tuple[Prediction, ...]:
    """The resolution at each of `ratios` times the particles, from the half maps' FSC `curve` (L // 2 + 1,).

    With fewer particles it is read off the curve itself, where that falls below what would become 0.143; with more it
    goes on from the resolution measured, 1 / d'² = 1 / d² + ln r / b. An extrapolation at the present accuracy of
    orientations: better maps orient particles better, so it errs on the side of caution, while structures that
    differ from particle to particle make it hopeful.
    """
    values = np.nan_to_num(as_array(curve))
    finest = finest_angstrom(box, pixel_size_angstrom, last_shell)
    measured = resolution_at(values, HALF_MAP_THRESHOLD, pixel_size_angstrom, box, last_shell)

    def at_limit(resolution: float) -> bool:
        return resolution <= finest * (1 + 1e-6)

    def extrapolated(ratio: float, slope: float) -> float:
        return max(finest, 1 / math.sqrt(1 / measured**2 + math.log(ratio) / slope))

    found = []
    for ratio in ratios:
        threshold = HALF_MAP_THRESHOLD / (HALF_MAP_THRESHOLD + ratio * (1 - HALF_MAP_THRESHOLD))
        if ratio <= 1 or at_limit(measured):
            level = threshold if ratio <= 1 else HALF_MAP_THRESHOLD
            resolution = resolution_at(values, level, pixel_size_angstrom, box, last_shell)
            found.append(Prediction(ratio, resolution, 0.0, at_limit(resolution)))
        elif fall_off is None:
            found.append(Prediction(ratio, None, 0.0, False))
        else:
            slope, error = fall_off.slope_angstrom2, fall_off.error_angstrom2
            resolution, worse = (extrapolated(ratio, each) for each in (slope, slope + error))
            found.append(Prediction(ratio, resolution, worse - resolution, at_limit(resolution)))
    return tuple(found)
