"""How far a structure is determined, degree by degree: by what others that explain the data as well have in common.

Moments say much of some degrees and little of others. Structures that were drawn apart and ended at the same misfit
agree in what the data determined; in the rest each is what its draw made it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clarice.geometry.harmonics import BallBasis, degrees_of
from clarice.geometry.so3_correlation import RotationCorrelation

# Another structure explains the data as well if its misfit is at most so many times that of the best.
AS_WELL = 1.5


def degree_agreement(ball: BallBasis, radii: tuple[float, ...], chosen: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Correlation of degrees l = 0, 1, … of coefficients `chosen` (size,) with `others`, their mean: (degree + 1,).

    Each is laid on it first, turned and in either hand. `radii`: Fourier rings in cycles per box, up to which
    structures are compared, by the voxels of their shells. Empty where there are no others.
    """
    if not others:
        return torch.zeros(0, dtype=torch.float64)
    transforms, shell = ball.transforms(radii), torch.tensor(radii, dtype=torch.float64)
    search = RotationCorrelation(ball.degree)
    reference = ball.on_spheres(chosen.double(), transforms) * shell
    found = []
    for other in others:
        spheres = ball.on_spheres(other.double(), transforms) * shell
        laid = search.best(reference, spheres).laid(spheres)
        parts = zip(degrees_of(reference, 0), degrees_of(laid, 0), strict=True)
        found.append(torch.stack([_correlation(a, b) for a, b in parts]))
    return torch.stack(found).mean(dim=0)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum() / (first.norm() * second.norm()).clamp_min(1e-300)
