"""The space that learned structures live in: functions in a ball around a molecule, lengths in units of its diameter.

One network serves every box and pixel size, because it knows structures by their coefficients x_ls (`geometry.
harmonics.BallBasis`) in a ball that is a little wider than the molecule, with waves as short as 2/13 of its diameter.
Two boxes in which it fills different shares differ in nothing but a factor of x, and x is scaled to degree 0 of unit
length, of which the first moment tells. Network and samplers see z = x / s, with s the root mean square that a
population has in each (l, s): numbers of about 1 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.abinitio.moments import MomentRings
from clarice.geometry.harmonics import BallBasis, degree_of_each

# The ball's radius, the highest frequency of its functions and the rings' spacing, per diameter and in waves across it.
_RADIUS, _MOST_WAVES, _RING_STEP = 0.548, 6.5, 0.65
_RINGS = 9
# Where coefficients are made from volumes: a box whose Nyquist frequency no function comes near.
_BOX, _FILL = 32, 0.65


@dataclass(frozen=True)
class StructureSpace:
    """The ball, its rings and the order of its coefficients. All spaces are alike; `structure_space` is the one."""

    def ball(self, box: int, diameter_px: float) -> BallBasis:
        """The functions, for molecules of `diameter_px` in a box of `box` pixels."""
        return BallBasis(box, _RADIUS * diameter_px, _MOST_WAVES * box / diameter_px)

    def radii(self, box: int, diameter_px: float) -> tuple[float, ...]:
        """The rings on which moments are taken, in cycles per box."""
        return tuple(_RING_STEP * ring * box / diameter_px for ring in range(1, _RINGS + 1))

    @cached_property
    def own_ball(self) -> BallBasis:
        """The functions in the box in which structures are learned from."""
        return self.ball(_BOX, _FILL * _BOX)

    @cached_property
    def counts(self) -> list[int]:
        """How many radial functions each degree has."""
        return [len(zeros) for zeros in self.own_ball.zeros]

    @property
    def degree(self) -> int:
        """The highest degree."""
        return len(self.counts) - 1

    @property
    def size(self) -> int:
        """The number of coefficients."""
        return self.own_ball.size

    @cached_property
    def transforms(self) -> list[Tensor]:
        """B_l (K, S_l) float64 from coefficients to A on the rings, but for a factor."""
        found = self.own_ball.transforms(self.radii(_BOX, _FILL * _BOX))
        unit = max(float(torch.linalg.matrix_norm(each, 2)) for each in found)
        return [each / unit for each in found]

    @cached_property
    def group_of_each(self) -> NDArray[np.int64]:
        """Which (l, s) each of the coefficients belongs to, counted through: (size,)."""
        sizes = np.repeat(2 * np.arange(self.degree + 1) + 1, self.counts)
        return np.repeat(np.arange(len(sizes)), sizes)

    def split(self, coefficients: Tensor) -> list[Tensor]:
        """Degrees l of coefficients (…, size), each (…, S_l, 2l + 1)."""
        sizes = [count * (2 * l + 1) for l, count in enumerate(self.counts)]  # noqa: E741 — the name in the field
        parts = torch.split(coefficients, sizes, dim=-1)
        shape = coefficients.shape[:-1]
        return [part.reshape(*shape, count, -1) for part, count in zip(parts, self.counts, strict=True)]

    def joined(self, parts: list[Tensor]) -> Tensor:
        """The inverse of `split`."""
        return torch.cat([part.flatten(-2) for part in parts], dim=-1)

    def spheres(self, coefficients: Tensor) -> Tensor:
        """A (…, (degree + 1)², K) of coefficients (…, size), but for a factor. Differentiable."""
        parts = zip(self.transforms, self.split(coefficients), strict=True)
        return torch.cat([part.mT @ transform.T.to(part) for transform, part in parts], dim=-2)

    def scaled(self, coefficients: Tensor) -> Tensor:
        """Coefficients (…, size) divided by the length of their degree 0."""
        return coefficients / self.split(coefficients)[0][..., 0].norm(dim=-1)[..., None]

    def spread_of(self, population: Tensor) -> Tensor:
        """s, the root mean square of each (l, s) in a `population` (n, size) that was scaled: (size,) float32."""
        groups = torch.from_numpy(self.group_of_each)
        total = torch.zeros(int(groups[-1]) + 1, dtype=torch.float64)
        total.index_add_(0, groups, population.double().square().mean(dim=0))
        return (total / torch.bincount(groups)).sqrt()[groups].float()

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Where coefficients (size,) stand in a table ((degree + 1)², S_0), and the inverse.

        The first, of the table's shape, is `size` where degrees have fewer functions than degree 0.
        """
        width = self.counts[0]
        table = np.full(((self.degree + 1) ** 2, width), self.size)
        start = 0
        for l, count in enumerate(self.counts):  # noqa: E741
            order = np.arange(2 * l + 1)
            table[l * l + order[:, None], np.arange(count)] = start + np.arange(count) * (2 * l + 1) + order[:, None]
            start += count * (2 * l + 1)
        back = np.zeros(self.size, dtype=np.int64)
        used = np.flatnonzero(table.ravel() < self.size)
        back[table.ravel()[used]] = used
        return torch.from_numpy(table), torch.from_numpy(back)

    @cached_property
    def _voxels(self) -> tuple[Tensor, Tensor]:
        inside, directions, distances = self.own_ball.voxels()
        functions = self.own_ball.functions_at(directions * distances[:, None])
        return torch.from_numpy(inside), functions.float()

    def of_volume(self, volume: Tensor) -> Tensor:
        """Coefficients (size,) float32 of a volume of `learning_box` pixels that fills about `learning_fill` of it."""
        inside, functions = self._voxels
        return volume[inside].float() @ functions

    @property
    def learning_box(self) -> int:
        """Edge of the volumes that `of_volume` takes."""
        return _BOX

    @property
    def learning_fill(self) -> float:
        """Share of the box that a molecule's diameter fills there."""
        return _FILL

    @property
    def degree_of_harmonic(self) -> Tensor:
        """l of each of the (degree + 1)² harmonics."""
        return torch.from_numpy(degree_of_each(self.degree))


@lru_cache(maxsize=1)
def structure_space() -> StructureSpace:
    """The space, made once."""
    return StructureSpace()


def learned_rings(box: int, diameter_px: float, third_rings: int = 0, third_orders: int = 0) -> MomentRings:
    """The rings of the learned space, for moments of molecules of `diameter_px`; the first two alone by default."""
    space = structure_space()
    return MomentRings(box, space.radii(box, diameter_px), space.degree, third_rings, third_orders)
