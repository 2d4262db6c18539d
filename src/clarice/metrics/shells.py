"""Fourier ring and shell correlation, the resolution they state, and their controls (masks, noise).

Shell k of a box of L pixels lies at k / (L · pixel size) per Å; curves have L // 2 + 1 entries, from shell
0 on. A Fourier element belongs to the shell its rounded radius names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Rosenthal & Henderson 2003: where independent half maps still tell of the structure.
HALF_MAP_THRESHOLD = 0.143
# Chen et al. 2013 randomise phases beyond the shell where the unmasked half maps still agree well.
RANDOMISE_BELOW = 0.8
# Shells before this hold so few elements that a dip among them says nothing.
FIRST_TELLING_SHELL = 3
# Shells next to the first randomised one mix kept and random phases through the mask.
TRANSITION_SHELLS = 2
CHUNK_ELEMENTS = 1 << 24


def half_shells(box: int, ndim: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Shell and multiplicity of every element of a real transform (`rfftn` layout) of a (box,)*ndim grid."""
    full = np.fft.fftfreq(box, 1 / box)
    half = np.arange(box // 2 + 1, dtype=np.float64)
    squares = half**2
    for _ in range(ndim - 1):
        squares = full.reshape(-1, *(1,) * squares.ndim) ** 2 + squares
    # Elements with 0 < kx < L/2 stand for themselves and their Hermitian partner.
    multiplicity = np.full(len(half), 2.0)
    multiplicity[0] = 1
    if box % 2 == 0:
        multiplicity[-1] = 1
    return np.rint(np.sqrt(squares)).astype(np.int64), np.broadcast_to(multiplicity, squares.shape)


def as_array(values: ArrayLike | torch.Tensor) -> FloatArray:
    """Values as a float64 array, whether they come as an array or as a tensor on any device."""
    return np.asarray(values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values, dtype=np.float64)


def _as_grids(values: ArrayLike, ndim: int, name: str) -> FloatArray:
    array = as_array(values)
    if array.ndim < ndim or len(set(array.shape[-ndim:])) != 1:
        raise ValueError(f"{name} must have {ndim} equal trailing axes, not the shape {array.shape}")
    return array


def _shell_correlation(a: FloatArray, b: FloatArray, ndim: int) -> FloatArray:
    """Correlation of (n, L, ..) grids by shell, (n, L // 2 + 1); 0 where a shell holds no power."""
    box = a.shape[-1]
    shells, multiplicity = half_shells(box, ndim)
    inside = shells <= box // 2
    index, weight = shells[inside], multiplicity[inside]
    axes = tuple(range(-ndim, 0))
    curves: FloatArray = np.empty((len(a), box // 2 + 1))
    step = max(1, CHUNK_ELEMENTS // box**ndim)
    for start in range(0, len(a), step):
        spectra_a = np.fft.rfftn(a[start : start + step], axes=axes)[:, inside]
        spectra_b = np.fft.rfftn(b[start : start + step], axes=axes)[:, inside]
        for row, (fa, fb) in enumerate(zip(spectra_a, spectra_b, strict=True), start):
            terms = ((fa * fb.conj()).real, np.abs(fa) ** 2, np.abs(fb) ** 2)
            curves[row] = correlation_of_terms(index, [weight * term for term in terms], box)
    return curves


def correlation_of_terms(shells: NDArray[np.int64], terms: Sequence[FloatArray], box: int) -> FloatArray:
    """Correlation by shell (box // 2 + 1,) from Re(a b̄), |a|² and |b|² of elements (m,) of those `shells`.

    0 where a shell holds no power.
    """
    cross, power_a, power_b = (np.bincount(shells, term, box // 2 + 1) for term in terms)
    norm = np.sqrt(power_a * power_b)
    curve: FloatArray = np.divide(cross, norm, out=np.zeros_like(norm), where=norm > 0)
    return curve


def shell_power(spectrum: NDArray[np.complex128]) -> FloatArray:
    """Mean of |spectrum|² by shell, corners included, of the real transform (L, L, L // 2 + 1) of a volume."""
    shells, multiplicity = half_shells(spectrum.shape[0], 3)
    total = np.bincount(shells.ravel(), (multiplicity * np.abs(spectrum) ** 2).ravel())
    mean: FloatArray = total / np.bincount(shells.ravel(), multiplicity.ravel())
    return mean


def frc(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Fourier ring correlation of images a and b, (n, L, L) or (L, L) each: (n, L // 2 + 1).

    Raises ValueError when the shapes differ or are not square.
    """
    images_a, images_b = (_as_grids(x, 2, "images").reshape(-1, *np.shape(x)[-2:]) for x in (a, b))
    if images_a.shape != images_b.shape:
        raise ValueError(f"images of shapes {images_a.shape} and {images_b.shape} cannot be correlated")
    return _shell_correlation(images_a, images_b, 2)


def fsc(a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None) -> FloatArray:
    """Fourier shell correlation of volumes a and b, (L, L, L) each, under an optional mask: (L // 2 + 1,).

    Raises ValueError when the shapes differ or are not cubic.
    """
    map_a, map_b = _as_grids(a, 3, "a volume"), _as_grids(b, 3, "a volume")
    if map_a.shape != map_b.shape:
        raise ValueError(f"volumes of shapes {map_a.shape} and {map_b.shape} cannot be correlated")
    if mask is not None:
        weights = _as_grids(mask, 3, "a mask")
        map_a, map_b = map_a * weights, map_b * weights
    curve: FloatArray = _shell_correlation(map_a[None], map_b[None], 3)[0]
    return curve


def shell_frequencies(box: int, pixel_size_angstrom: float) -> FloatArray:
    """Spatial frequency of each shell, per Å: (box // 2 + 1,)."""
    return np.arange(box // 2 + 1) / (box * pixel_size_angstrom)


def resolution_at(curve: ArrayLike, threshold: float, pixel_size_angstrom: float, box: int) -> float:
    """Resolution in Å at which `curve` (box // 2 + 1,) first falls below `threshold`, interpolated.

    Nyquist (two pixels) where it never falls; the box's edge where it is below from shell 1 on. Shell 0, the
    mean density, says nothing about resolution and is not looked at.
    """
    values = np.nan_to_num(np.asarray(curve, dtype=np.float64))
    below = np.flatnonzero(values[1:] < threshold) + 1
    if len(below) == 0:
        return 2 * pixel_size_angstrom
    shell = int(below[0])
    if shell == 1:
        return box * pixel_size_angstrom
    upper, lower = values[shell - 1], values[shell]
    crossing = shell - 1 + (upper - threshold) / (upper - lower)
    return float(box * pixel_size_angstrom / crossing)


@dataclass(frozen=True)
class HalfMapCurves:
    """FSC curves of two half maps, each (L // 2 + 1,); phases are random from shell `randomised_from` on."""

    unmasked: FloatArray
    masked: FloatArray
    phase_randomised: FloatArray
    corrected: FloatArray
    randomised_from: int


def randomise_phases(volume: ArrayLike, from_shell: int, generator: torch.Generator) -> FloatArray:
    """`volume` (L, L, L) with its amplitudes, and phases drawn at random from shell `from_shell` on."""
    values = _as_grids(volume, 3, "a volume")
    box = values.shape[-1]
    # Phases of real white noise have the Hermitian symmetry that keeps the result real.
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float64).numpy()
    phases = np.exp(1j * np.angle(np.fft.rfftn(noise)))
    spectrum = np.fft.rfftn(values)
    shells, _ = half_shells(box, 3)
    return np.fft.irfftn(
        np.where(shells >= from_shell, np.abs(spectrum) * phases, spectrum), s=values.shape, axes=(0, 1, 2)
    )


def _flattened(half1: ArrayLike, half2: ArrayLike, last_shell: int) -> tuple[FloatArray, FloatArray]:
    """Two volumes (L, L, L) divided by the curve that gives all shells the same power, empty beyond `last_shell`."""
    spectra = [np.fft.rfftn(_as_grids(half, 3, "a volume")) for half in (half1, half2)]
    box = np.shape(half1)[-1]
    shells, _ = half_shells(box, 3)
    amplitude = np.sqrt(shell_power(spectra[0]) + shell_power(spectra[1]))
    # What is weaker than this is rounding, not density.
    amplitude[amplitude <= 1e-6 * amplitude.max()] = np.inf
    amplitude[last_shell + 1 :] = np.inf
    first, second = (np.fft.irfftn(s / amplitude[shells], s=(box,) * 3, axes=(0, 1, 2)) for s in spectra)
    return first, second


def _last_agreeing_shell(curve: FloatArray) -> int:
    """The last shell at 0.8 or above before the curve falls below 0.143; 0 where there is none.

    The first fall below 0.8 would not do: a dip in a nearly empty low shell would then randomise strong ones, and what
    the mask carries out of them would count as agreement. Nor would shells that agree again after the fall.
    """
    fallen = np.flatnonzero(curve[FIRST_TELLING_SHELL:] < HALF_MAP_THRESHOLD) + FIRST_TELLING_SHELL
    before = curve[: fallen[0]] if len(fallen) else curve
    agreeing = np.flatnonzero(before[1:] >= RANDOMISE_BELOW) + 1
    return int(agreeing[-1]) if len(agreeing) else 0


def half_map_fsc(
    half1: ArrayLike, half2: ArrayLike, mask: ArrayLike, generator: torch.Generator, last_shell: int | None = None
) -> HalfMapCurves:
    """FSC of two half maps under `mask`, freed from the correlation the mask itself makes.

    Shells are brought to equal power before the mask is laid on: else it carries so much of the strong low ones into
    the weak high ones that half maps of pure noise agree there, once both were aligned to the same blurred map.
    Shells beyond `last_shell` were not measured: they are left out, and every curve is zero there.

    Phases are randomised beyond the last shell whose unmasked FSC reaches 0.8 before it falls below 0.143. From two
    shells later on the correction is (masked − randomised) / (1 − randomised) (Chen et al. 2013, Ultramicroscopy
    135:24); the shells between, which mix kept and random phases, stay as they are.
    """
    last_shell = np.shape(half1)[-1] // 2 if last_shell is None else last_shell
    measured = np.arange(np.shape(half1)[-1] // 2 + 1) <= last_shell
    unmasked = np.where(measured, fsc(half1, half2), 0.0)
    start = _last_agreeing_shell(unmasked) + 1
    half1, half2 = _flattened(half1, half2, last_shell)
    masked = np.where(measured, fsc(half1, half2, mask), 0.0)
    random1 = randomise_phases(half1, start, generator)
    random2 = randomise_phases(half2, start, generator)
    randomised = np.where(measured, fsc(random1, random2, mask), 0.0)
    beyond = np.arange(len(masked)) >= start + TRANSITION_SHELLS
    # Where random phases already explain everything, nothing is left to state.
    room = 1 - randomised
    usable = beyond & (room > 1e-6)
    corrected = np.where(beyond, 0.0, masked)
    corrected[usable] = (masked - randomised)[usable] / room[usable]
    return HalfMapCurves(unmasked, masked, randomised, corrected, start)


def noise_null(
    box: int,
    generator: torch.Generator,
    mask: ArrayLike | None = None,
    quantile: float = 0.95,
    trials: int = 40,
) -> FloatArray:
    """The FSC that two white-noise volumes stay below in `quantile` of trials, (box // 2 + 1,)."""

    def noise() -> FloatArray:
        return torch.randn((box, box, box), generator=generator, dtype=torch.float32).numpy()

    curves = np.stack([fsc(noise(), noise(), mask) for _ in range(trials)])
    return np.asarray(np.quantile(curves, quantile, axis=0))
