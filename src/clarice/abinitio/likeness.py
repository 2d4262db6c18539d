"""A few clean images beside moments: which slices of a structure they are most like, and how much.

Slices along quasi-uniform views are compared with an image at every angle by one Fourier transform over the orders of
their series. Denoised images or class averages will do: how far they may be off is said.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clarice.geometry.harmonics import slice_series
from clarice.geometry.so3 import sphere_grid, view_rotations

# Views among which an image's is looked for, and angles in the plane.
_VIEWS, _ANGLES = 400, 64
# The share of a ring's mean power that an order's errors have at least: views are off by some degrees.
_LEAST_POWER = 0.1


class Likeness:
    """Compares structures up to `degree` with images, given by their series (n, orders + 1, K) on rings of `radii`."""

    def __init__(self, images: Tensor, degree: int, radii: tuple[float, ...]) -> None:
        orders = images.shape[1] - 1
        self.images = images.to(torch.complex128)
        self._slices = slice_series(view_rotations(sphere_grid(_VIEWS)), degree, orders)
        self._sides = torch.full((orders + 1, 1), 2.0, dtype=torch.float64)
        self._sides[0] = 1.0  # orders below 0 are the conjugates of those above
        self._weight = self._sides * torch.tensor(radii, dtype=torch.float64)
        self._weighted, self._lengths = self.images * self._weight, self._length(self.images)
        self._angles = max(_ANGLES, orders + 1)

    def _length(self, series: Tensor) -> Tensor:
        return (series.abs().square() * self._weight).sum(dim=(1, 2)).sqrt()

    def _likeness(self, spheres: Tensor) -> Tensor:
        """Correlations (n, views, angles) of images with slices of A ((degree + 1)², K)."""
        slices = self._slices @ spheres.to(torch.complex128)
        cross = torch.einsum("iok,vok->ivo", self._weighted, slices.conj())
        turned = torch.fft.fft(cross, n=self._angles, dim=-1).real
        return turned / self._length(slices)[:, None] / self._lengths[:, None, None]

    def __call__(self, spheres: Tensor) -> float:
        """Mean over images of their correlation with the slice of A ((degree + 1)², K) that they are most like."""
        return float(self._likeness(spheres).amax(dim=(1, 2)).mean())

    def nearest_slices(self, spheres: Tensor) -> Tensor:
        """What takes A to the slice that each image is most like: (n, orders + 1, (degree + 1)²) complex."""
        best = self._likeness(spheres).flatten(1).argmax(dim=1)
        view, angle = best // self._angles, best % self._angles
        orders = torch.arange(len(self._sides), dtype=torch.float64)
        turn = 2 * torch.pi * angle[:, None] * orders / self._angles
        return self._slices[view] * torch.polar(torch.ones_like(turn), turn)[:, :, None]

    def precision(self, error: float) -> Tensor:
        """Inverse variance (orders + 1, K) of the images' series, whose relative error is `error`, both signs of an
        order counted.
        """
        power = self.images.abs().square().mean(dim=0)
        variance = power + _LEAST_POWER * power.mean(dim=0)
        return self._sides / (error**2 * variance.clamp_min(1e-300))
