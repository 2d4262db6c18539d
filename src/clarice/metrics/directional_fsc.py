"""Agreement of half maps by direction: Fourier shell correlation in cones.

Missing views leave directions of Fourier space empty, which a curve over whole shells hides. Here each curve is of
the elements within a cone about a direction and its opposite (Diebolder et al. 2015, "conical FSC"; Tan et al. 2017,
Nature Methods 14:793).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarice.metrics.shells import as_array, correlation_of_terms, half_shells

FloatArray = NDArray[np.float64]

# Narrower cones hold too few elements in a box of 64 pixels to tell a curve from chance.
HALF_ANGLE_DEG = 30.0


def directional_fsc(
    half1: ArrayLike, half2: ArrayLike, directions: ArrayLike, half_angle_deg: float = HALF_ANGLE_DEG
) -> FloatArray:
    """FSC of two volumes (L, L, L) in a cone about each of `directions` (d, 3), unit vectors x, y, z: (d, L // 2 + 1).

    The mean density, which lies in no direction, counts in every cone. Raises ValueError when shapes do not fit.
    """
    first, second, axes = as_array(half1), as_array(half2), as_array(directions)
    if first.shape != second.shape:
        raise ValueError(f"volumes of shapes {first.shape} and {second.shape} cannot be correlated")
    if axes.ndim != 2 or axes.shape[1] != 3:
        raise ValueError(f"directions must have the shape (d, 3), not {axes.shape}")
    box = first.shape[-1]
    shell, multiplicity = half_shells(box, 3)
    inside = shell <= box // 2
    full = np.fft.fftfreq(box, 1 / box)
    z, y, x = np.meshgrid(full, full, np.arange(box // 2 + 1), indexing="ij")
    towards = np.stack([axis[inside] for axis in (x, y, z)])
    towards /= np.maximum(np.linalg.norm(towards, axis=0), 1e-12)
    spectra = [np.fft.rfftn(volume)[inside] for volume in (first, second)]
    weight = multiplicity[inside]
    terms = (
        weight * (spectra[0] * spectra[1].conj()).real,
        weight * np.abs(spectra[0]) ** 2,
        weight * np.abs(spectra[1]) ** 2,
    )
    shells, least = shell[inside], math.cos(math.radians(half_angle_deg))
    curves = np.empty((len(axes), box // 2 + 1))
    for row, axis in enumerate(axes):
        chosen = (np.abs(axis @ towards) >= least - 1e-12) | (shells == 0)
        curves[row] = correlation_of_terms(shells[chosen], [term[chosen] for term in terms], box)
    return curves
