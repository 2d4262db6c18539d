"""Agreement of half maps by direction: Fourier shell correlation in cones.

Missing views leave directions of Fourier space empty, which a curve over whole shells hides. Here each curve is of
the elements within a cone about a direction and its opposite (Diebolder et al. 2015, "conical FSC"; Tan et al. 2017,
Nature Methods 14:793).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from clarice.metrics.half_maps import FlatHalves
from clarice.metrics.shells import as_array, as_grids, correlation_of, half_shells, shell_power

FloatArray = NDArray[np.float64]

# Narrower cones hold too few elements in a box of 64 pixels to tell a curve from chance.
HALF_ANGLE_DEG = 30.0
# A cone with less than this share of its shell's mean power was not measured. A mask fills it from beside, alike in
# both half maps, which would otherwise count as agreement.
EMPTY = 0.01


def directional_fsc(
    half1: ArrayLike, half2: ArrayLike, directions: ArrayLike, half_angle_deg: float = HALF_ANGLE_DEG
) -> FloatArray:
    """FSC of two volumes (L, L, L) in a cone about each of `directions` (d, 3), unit vectors x, y, z: (d, L // 2 + 1).

    The mean density, which lies in no direction, counts in every cone. Raises ValueError for volumes that are not cubes
    of one size, and for directions of another shape.
    """
    return correlation_of(*_cone_sums([(half1, half2)], directions, half_angle_deg)[0][:3])


def directional_half_map_fsc(
    half1: ArrayLike,
    half2: ArrayLike,
    mask: ArrayLike,
    directions: ArrayLike,
    generator: torch.Generator,
    last_shell: int | None = None,
    half_angle_deg: float = HALF_ANGLE_DEG,
) -> FloatArray:
    """`directional_fsc` of half maps under `mask`, each cone freed from what the mask makes agree in it.

    See `FlatHalves`. 0 where a cone is empty in the half maps themselves, and beyond `last_shell`.
    """
    flat = FlatHalves.of(half1, half2, generator, last_shell)
    weights = as_grids(mask, 3, "a mask")
    pairs = [flat.kept, *([half * weights for half in pair] for pair in (flat.kept, flat.randomised))]
    unmasked, masked, randomised = _cone_sums(pairs, directions, half_angle_deg)
    curves = flat.corrected(correlation_of(*masked[:3]), correlation_of(*randomised[:3]))
    _, power1, power2, count = unmasked
    of_shell = sum(shell_power(np.fft.rfftn(half))[: curves.shape[1]] for half in flat.kept)
    curves[power1 + power2 < EMPTY * count * of_shell] = 0
    curves[:, flat.last_shell + 1 :] = 0
    return curves


def _cone_sums(
    pairs: Sequence[Sequence[ArrayLike]], directions: ArrayLike, half_angle_deg: float
) -> list[tuple[FloatArray, ...]]:
    """For each pair of volumes a, b the sums of Re(a b̄), |a|², |b|² and 1 over each cone's shells, (d, L // 2 + 1)."""
    volumes = [[as_grids(volume, 3, "a volume") for volume in pair] for pair in pairs]
    shapes = {volume.shape for pair in volumes for volume in pair}
    if len(shapes) > 1:
        raise ValueError(f"volumes of shapes {' and '.join(map(str, sorted(shapes)))} cannot be correlated")
    axes = as_array(directions)
    if axes.ndim != 2 or axes.shape[1] != 3:
        raise ValueError(f"directions must have the shape (d, 3), not {axes.shape}")
    box = volumes[0][0].shape[-1]
    shell, multiplicity = half_shells(box, 3)
    inside = shell <= box // 2
    shells, weight, towards = shell[inside], multiplicity[inside], _unit_vectors(box)[:, inside]
    terms = [_terms([np.fft.rfftn(volume)[inside] for volume in pair], weight) for pair in volumes]
    least = math.cos(math.radians(half_angle_deg))
    sums = [tuple(np.empty((len(axes), box // 2 + 1)) for _ in range(4)) for _ in pairs]
    for row, axis in enumerate(axes):
        chosen = (np.abs(axis @ towards) >= least - 1e-12) | (shells == 0)
        for found, of_pair in zip(sums, terms, strict=True):
            for total, term in zip(found, of_pair, strict=True):
                total[row] = np.bincount(shells[chosen], term[chosen], box // 2 + 1)
    return sums


def _unit_vectors(box: int) -> FloatArray:
    """Direction x, y, z of every element of a real transform, (3, L, L, L // 2 + 1); none at the origin."""
    full = np.fft.fftfreq(box, 1 / box)
    z, y, x = np.meshgrid(full, full, np.arange(box // 2 + 1), indexing="ij")
    vectors = np.stack([x, y, z])
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-12))


def _terms(spectra: Sequence[NDArray[np.complex128]], weight: FloatArray) -> tuple[FloatArray, ...]:
    a, b = spectra
    return weight * (a * b.conj()).real, weight * np.abs(a) ** 2, weight * np.abs(b) ** 2, weight
