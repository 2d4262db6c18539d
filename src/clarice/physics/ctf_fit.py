"""The defocus of a micrograph from its power spectrum: the Thon rings that |H|² leaves in it.

The mean spectrum of overlapping tiles and |H|², both less what varies slowly with the radius, are correlated; defocus
and astigmatism are those of the largest correlation, searched for first without astigmatism. What correlation noise
alone reaches, of whose coefficients some always look like rings, is stated beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize

from clarice.core.errors import InputError
from clarice.core.particles import FloatArray, Optics
from clarice.physics.ctf import ctf_at

_TILE = 512
# Steps of the first search; how far about its result, with which astigmatism (Å) and in how many directions it is then
# looked, and how many of these starts are followed.
_STEP_ANGSTROM = 100.0
_AROUND_ANGSTROM, _ASTIGMATISM_ANGSTROM, _DIRECTIONS, _FOLLOWED = 1200.0, (300.0, 900.0, 1800.0), 8, 3
# Width, in Fourier pixels of a tile, over which a spectrum is said to vary slowly.
_SLOWLY = 12.0
# Correlation times the root of the number of coefficients: of 275 fits to noise, in tiles of 128 to 512 pixels, 2 came
# above this (both of 40 to blurred noise; white noise reached 9.5), where averaged real micrographs reach 26 to 51.
_NOISE_REACHES = 10.0
# Fewer rings tell no CTF.
_LEAST_RINGS = 20


@dataclass(frozen=True)
class Microscope:
    """What is known of the optics beforehand."""

    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float


@dataclass(frozen=True)
class CtfFit:
    """Defocus U ≥ V in Å, the angle of U from +x towards +y in degrees, and the correlation with the spectrum.

    `noise_correlation` is what fits to noise without any CTF reach.
    """

    defocus_u_angstrom: float
    defocus_v_angstrom: float
    defocus_angle_deg: float
    correlation: float
    noise_correlation: float

    @property
    def is_no_better_than_noise(self) -> bool:
        """Whether a micrograph without any ring could have been fitted as well."""
        return self.correlation <= self.noise_correlation


@dataclass(frozen=True)
class FitRange:
    """Resolutions in Å between which rings are looked at; between which defocus U and V are searched, and U − V, Å.

    A microscope in use is aligned to a few hundred Å: beyond `largest_astigmatism_angstrom` it is noise that is fitted.
    """

    lowest_angstrom: float = 30.0
    highest_angstrom: float = 5.0
    least_defocus_angstrom: float = 3000.0
    largest_defocus_angstrom: float = 50000.0
    largest_astigmatism_angstrom: float = 2500.0


def fit_ctf(
    image: NDArray[np.float32], pixel_size_angstrom: float, microscope: Microscope, within: FitRange | None = None
) -> CtfFit:
    """The CTF of a micrograph (H, W).

    Raises InputError when an edge is shorter than a tile of 128 pixels, or pixels are too coarse for the range.
    """
    within = within or FitRange()
    spectrum, tile = mean_spectrum(image)
    rings = _Rings.of(spectrum, tile, pixel_size_angstrom, within)
    noise = _NOISE_REACHES / float(np.sqrt(len(rings.values)))
    defocus = np.arange(within.least_defocus_angstrom, within.largest_defocus_angstrom, _STEP_ANGSTROM)
    scores = [rings.correlation(microscope, value, value, 0.0) for value in defocus]
    start = float(defocus[int(np.argmax(scores))])
    best = CtfFit(start, start, 0.0, float(np.max(scores)), noise)
    misfit = _Misfit(rings, microscope, within)
    for first in sorted(_starts(start), key=misfit)[:_FOLLOWED]:
        options: Any = {"initial_simplex": first + _SIMPLEX, "xatol": 1.0, "fatol": 1e-7}
        found = minimize(misfit, first, method="Nelder-Mead", options=options)
        if -found.fun > best.correlation:
            u, v, degrees = _uv(found.x)
            best = CtfFit(u, v, degrees % 180, float(-found.fun), noise)
    return best


def _starts(defocus: float) -> list[FloatArray]:
    """Means and astigmatisms about a defocus that was found without any: strong astigmatism misleads it."""
    means = defocus + np.arange(-_AROUND_ANGSTROM, _AROUND_ANGSTROM + 1, 2 * _STEP_ANGSTROM)
    # Astigmatism as a vector of twice the angle, which has no seam.
    angles = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    around = [a * np.array([np.cos(angle), np.sin(angle)]) for a in _ASTIGMATISM_ANGSTROM for angle in angles]
    return [np.array([mean, *vector]) for mean in means for vector in around]


_SIMPLEX = np.array([[0.0, 0, 0], [150, 0, 0], [0, 300, 0], [0, 0, 300]])


@dataclass(frozen=True)
class _Misfit:
    """What is made least: the correlation's negative; outside the range more than any of them, the further the more."""

    rings: _Rings
    microscope: Microscope
    within: FitRange

    def __call__(self, parameters: FloatArray) -> float:
        u, v, degrees = _uv(parameters)
        within = self.within
        beyond = max(
            within.least_defocus_angstrom - v,
            u - within.largest_defocus_angstrom,
            u - v - within.largest_astigmatism_angstrom,
        )
        if beyond > 0:
            return 1 + beyond / _STEP_ANGSTROM
        return -self.rings.correlation(self.microscope, u, v, degrees)


def _uv(parameters: FloatArray) -> tuple[float, float, float]:
    """Defocus U ≥ V and angle of a mean and an astigmatism vector."""
    mean, across, along = (float(value) for value in parameters)
    half = np.hypot(across, along) / 2
    return mean + half, mean - half, float(np.rad2deg(np.arctan2(along, across)) / 2)


def mean_spectrum(image: NDArray[np.float32]) -> tuple[FloatArray, int]:
    """Mean power (T, T // 2 + 1) of tiles that overlap by half, on the grid of rfft2, and their edge T."""
    tile = _TILE
    while tile > 128 and tile > min(image.shape) // 2:
        tile //= 2
    if min(image.shape) < tile:
        raise InputError(f"a micrograph of {image.shape[1]} × {image.shape[0]} pixels is too small to fit a CTF to")
    window = np.hanning(tile)[:, None] * np.hanning(tile)
    total, count = np.zeros((tile, tile // 2 + 1)), 0
    for y in range(0, image.shape[0] - tile + 1, tile // 2):
        for x in range(0, image.shape[1] - tile + 1, tile // 2):
            part = image[y : y + tile, x : x + tile].astype(np.float64)
            total += np.abs(np.fft.rfft2((part - part.mean()) * window)) ** 2
            count += 1
    return total / count, tile


@dataclass(frozen=True)
class _Rings:
    """Coefficients in the range: frequencies (n,) per Å, rings (n,), and the logarithm of the power less its trend."""

    fx: FloatArray
    fy: FloatArray
    ring: NDArray[np.int64]
    values: FloatArray

    @classmethod
    def of(cls, spectrum: FloatArray, tile: int, pixel: float, within: FitRange) -> _Rings:
        fy, fx = np.meshgrid(np.fft.fftfreq(tile), np.fft.rfftfreq(tile), indexing="ij")
        radius = np.hypot(fx, fy) * tile
        first, last = tile * pixel / within.lowest_angstrom, tile * pixel / max(within.highest_angstrom, 2.2 * pixel)
        if last - first < _LEAST_RINGS:
            raise InputError(
                f"pixels of {pixel:g} Å leave no Thon rings between {within.lowest_angstrom:g} and "
                f"{within.highest_angstrom:g} Å: take finer micrographs, or give the CTF by a STAR file"
            )
        inside = (radius >= first) & (radius <= last) & (fx > 0)
        ring = np.round(radius[inside]).astype(np.int64)
        # The logarithm of the power, less what varies slowly with radius and a ring's own brightness.
        power = np.log(np.maximum(spectrum[inside], 1e-30))
        mean = _ring_means(power, ring)
        slow = gaussian_filter1d(mean, _SLOWLY, mode="nearest")
        values = power - slow[ring - ring.min()]
        spread = np.sqrt(_ring_means((power - mean[ring - ring.min()]) ** 2, ring))
        limit = 4 * np.maximum(spread, 1e-6)[ring - ring.min()]
        return cls(fx[inside] / pixel, fy[inside] / pixel, ring - ring.min(), np.clip(values, -limit, limit))

    def correlation(self, microscope: Microscope, u: float, v: float, angle_deg: float) -> float:
        """Of the spectrum with |H|²; both less what varies slowly with radius."""
        one = np.ones(1)
        optics = Optics(
            one * microscope.voltage_kv, one * microscope.spherical_aberration_mm,
            one * microscope.amplitude_contrast, one * u, one * v, one * angle_deg, 0 * one, 0 * one,
        )  # fmt: skip
        fx, fy = (torch.from_numpy(f).float() for f in (self.fx, self.fy))
        wanted = ctf_at(optics, fx, fy)[0].double().numpy() ** 2
        mean = _ring_means(wanted, self.ring)
        wanted = wanted - gaussian_filter1d(mean, _SLOWLY, mode="nearest")[self.ring]
        product = float(np.sqrt((wanted**2).sum() * (self.values**2).sum()))
        return float((wanted * self.values).sum()) / product if product > 0 else 0.0


def _ring_means(values: FloatArray, ring: NDArray[np.int64]) -> FloatArray:
    """Means on rings, counted from the first; what a ring without values would have comes from its neighbours."""
    ring = ring - ring.min()
    count = np.bincount(ring)
    means = np.bincount(ring, values) / np.maximum(count, 1)
    known = np.flatnonzero(count)
    return np.interp(np.arange(len(count)), known, means[known])
