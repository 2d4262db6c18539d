"""How far two half maps agree under a mask, freed from what the mask itself makes agree; the control by noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from clarice.metrics.shells import (
    FIRST_TELLING_SHELL,
    HALF_MAP_THRESHOLD,
    as_grids,
    fsc,
    half_shells,
    shell_power,
)

FloatArray = NDArray[np.float64]

# Chen et al. 2013 randomise phases beyond the shell where the unmasked half maps still agree well.
RANDOMISE_BELOW = 0.8
# Shells next to the first randomised one mix kept and random phases through the mask.
TRANSITION_SHELLS = 2
# What is weaker than this share of the strongest shell's amplitude is rounding, not density.
ROUNDING = 1e-6


@dataclass(frozen=True)
class HalfMapCurves:
    """FSC curves of two half maps, each (L // 2 + 1,); phases are random from shell `randomised_from` on."""

    unmasked: FloatArray
    masked: FloatArray
    phase_randomised: FloatArray
    corrected: FloatArray
    randomised_from: int


@dataclass(frozen=True)
class FlatHalves:
    """Two half maps (L, L, L) with the same power in every shell, and the same with random phases from `start` on.

    Without flat shells a mask would carry so much of the strong low ones into the weak high ones that half maps of
    pure noise agree there, once both were aligned to the same blurred map. Shells beyond `last_shell` are empty.
    `unmasked` (L // 2 + 1,) is the FSC of the half maps as they were, 0 beyond `last_shell`.
    """

    unmasked: FloatArray
    kept: tuple[FloatArray, FloatArray]
    randomised: tuple[FloatArray, FloatArray]
    start: int
    last_shell: int

    @classmethod
    def of(
        cls, half1: ArrayLike, half2: ArrayLike, generator: torch.Generator, last_shell: int | None = None
    ) -> FlatHalves:
        """Phases are randomised beyond the last shell before the unmasked FSC stays below 0.8."""
        last = np.shape(half1)[-1] // 2 if last_shell is None else last_shell
        unmasked = fsc(half1, half2)
        unmasked[last + 1 :] = 0
        start = _last_agreeing_shell(unmasked) + 1
        first, second = _flattened(half1, half2, last)
        randomised = randomise_phases(first, start, generator), randomise_phases(second, start, generator)
        return cls(unmasked, (first, second), randomised, start, last)

    def corrected(self, masked: FloatArray, randomised: FloatArray) -> FloatArray:
        """Curves (…, L // 2 + 1) of masked halves less what those with random phases agree in under the same mask.

        (masked − randomised) / (1 − randomised) from two shells beyond `start` on (Chen et al. 2013, Ultramicroscopy
        135:24); the shells between, which mix kept and random phases, stay as they are.
        """
        beyond = np.arange(masked.shape[-1]) >= self.start + TRANSITION_SHELLS
        # Where random phases already explain everything, nothing is left to state.
        room = 1 - randomised
        usable = beyond & (room > 1e-6)
        corrected = np.where(beyond, 0.0, masked)
        corrected[usable] = (masked - randomised)[usable] / room[usable]
        return corrected


def half_map_fsc(
    half1: ArrayLike, half2: ArrayLike, mask: ArrayLike, generator: torch.Generator, last_shell: int | None = None
) -> HalfMapCurves:
    """FSC of two half maps under `mask`, freed from the correlation the mask itself makes; see `FlatHalves`.

    Shells beyond `last_shell` were not measured: they are left out, and every curve is zero there.
    """
    flat = FlatHalves.of(half1, half2, generator, last_shell)
    masked, randomised = (fsc(*halves, mask) for halves in (flat.kept, flat.randomised))
    for curve in (masked, randomised):
        curve[flat.last_shell + 1 :] = 0
    # Where random phases happen to disagree, nothing is added: a mask makes no halves agree less than they do.
    corrected = np.minimum(flat.corrected(masked, randomised), masked)
    return HalfMapCurves(flat.unmasked, masked, randomised, corrected, flat.start)


def randomise_phases(volume: ArrayLike, from_shell: int, generator: torch.Generator) -> FloatArray:
    """`volume` (L, L, L) with its amplitudes, and phases drawn at random from shell `from_shell` on."""
    values = as_grids(volume, 3, "a volume")
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
    spectra = [np.fft.rfftn(as_grids(half, 3, "a volume")) for half in (half1, half2)]
    box = np.shape(half1)[-1]
    shells, _ = half_shells(box, 3)
    amplitude = np.sqrt(shell_power(spectra[0]) + shell_power(spectra[1]))
    amplitude[amplitude <= ROUNDING * amplitude.max()] = np.inf
    amplitude[last_shell + 1 :] = np.inf
    first, second = (np.fft.irfftn(s / amplitude[shells], s=(box,) * 3, axes=(0, 1, 2)) for s in spectra)
    return first, second


def _last_agreeing_shell(curve: FloatArray) -> int:
    """The last shell at 0.8 or above before two in a row are below it, or one below 0.143; 0 where there is none.

    The first fall below 0.8 would not do: a dip in a nearly empty low shell would then randomise strong ones, and what
    the mask carries out of them would count as agreement. Nor would shells that agree again after the fall.
    """
    low = curve < RANDOMISE_BELOW
    ended = (low[:-1] & low[1:]) | (curve[:-1] < HALF_MAP_THRESHOLD)
    fallen = np.flatnonzero(ended[FIRST_TELLING_SHELL:]) + FIRST_TELLING_SHELL
    before = curve[: fallen[0]] if len(fallen) else curve
    agreeing = np.flatnonzero(before[1:] >= RANDOMISE_BELOW) + 1
    return int(agreeing[-1]) if len(agreeing) else 0


def last_filled_shell(half1: ArrayLike, half2: ArrayLike) -> int:
    """The last shell, L // 2 at most, in which both volumes (L, L, L) hold more than rounding; 0 where none does."""
    last = np.shape(half1)[-1] // 2
    for half in (half1, half2):
        amplitude = np.sqrt(shell_power(np.fft.rfftn(as_grids(half, 3, "a volume"))))
        filled = np.flatnonzero(amplitude[1 : last + 1] > ROUNDING * amplitude.max()) + 1
        last = int(filled[-1]) if len(filled) else 0
    return last


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
