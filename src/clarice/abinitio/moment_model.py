"""What moments a structure has whose views have a given density, and how far they are from those of particles.

The density of views is ρ(ω) ∝ exp Σ_lm c_lm Y_lm(ω) over directions ω, in-plane angles being uniform; the structure a
combination x of the functions in a ball. Their moments are sums over nodes ω of a quadrature,

    M1(k) = Σ_ω ρ a_0(ω),   M2_m = Σ_ω ρ a_m a_mᴴ,   M3_mn = Σ_ω ρ a_m a_n ā_{m+n},

with a_m(ω) the series of the slice along ω.

Where views are not uniform the first two moments generically determine a structure at low resolution (Sharon et al.,
Inverse Problems 36, 044003, 2020); the third settles what they leave open (Hoskins et al., 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.moments import MomentRings, Moments
from clarice.geometry.harmonics import BallBasis, degree_of_each, real_harmonics, slice_series, sphere_nodes
from clarice.geometry.so3 import FloatArray, view_rotations


@dataclass(frozen=True)
class MomentSet:
    """First, second and third moments: (K,), (orders + 1, K, K) and (pairs, K3, K3, K3); `third` None if not taken."""

    first: Tensor
    second: Tensor
    third: Tensor | None


@dataclass(frozen=True)
class MomentTargets:
    """Moments to be met, and the weight of each element's squared difference: the inverse of its variance.

    Weights of `second`, (orders + 1, K, K, 2), are of real and imaginary parts; those of the third, of both together.
    What stands in several places counts for its share in each.
    """

    rings: MomentRings
    moments: MomentSet
    first_weight: Tensor
    second_weight: Tensor
    third_weight: Tensor | None

    @classmethod
    def of(cls, measured: Moments, floor: float = 0.02) -> MomentTargets:
        """Of measured moments; no error is taken for less than the share `floor` of what an element may be."""
        rings, with_third = measured.rings, measured.rings.third_rings > 0
        third = measured.third_moment() if with_third else None
        moments = MomentSet(measured.first_moment(), measured.second_moment(), third)
        error = torch.view_as_real(measured.second_error())
        return cls.met_within(
            rings, moments, floor, measured.first_error(), error, measured.third_error() if with_third else 0.0
        )

    @classmethod
    def met_within(
        cls,
        rings: MomentRings,
        moments: MomentSet,
        floor: float,
        first_error: Tensor | float = 0.0,
        second_error: Tensor | float = 0.0,
        third_error: Tensor | float = 0.0,
    ) -> MomentTargets:
        """Of moments with known errors, shaped like the weights, or with none but `floor`, as exact ones have.

        An element may be as large as the power of its orders allows, or the mean power of the orders of its rings.
        """
        power = moments.second.real.diagonal(dim1=1, dim2=2).clamp_min(0)
        power = power + power.mean(dim=0)
        first_variance = first_error**2 + floor**2 * power[0]
        bound = floor**2 * power[:, :, None] * power[:, None, :]
        second_weight = second_shares(rings) / (second_error**2 + bound[..., None]).clamp_min(1e-30)
        third_weight = None
        if moments.third is not None:
            low = power[:, : rings.third_rings]
            triples = [torch.einsum("a,b,c->abc", low[m], low[n], low[m + n]) for m, n in rings.pairs]
            third_variance = third_error**2 + floor**2 * torch.stack(triples)
            third_weight = third_shares(rings) / third_variance.clamp_min(1e-30)
        return cls(rings, moments, 1 / first_variance, second_weight, third_weight)

    @property
    def elements(self) -> int:
        """How many numbers are met: each of the moments once, real and imaginary parts of the second apart."""
        count = self.moments.first.numel() + float(second_shares(self.rings).sum())
        return round(count if self.moments.third is None else count + float(third_shares(self.rings).sum()))

    def misfit(self, found: MomentSet, third_share: float = 1.0) -> Tensor:
        """Σ of squared differences times weights, those of the third moment times `third_share`. Differentiable."""
        total = ((found.first - self.moments.first).square() * self.first_weight).sum()
        second = torch.view_as_real(found.second - self.moments.second)
        total = total + (second.square() * self.second_weight).sum()
        if found.third is not None and self.moments.third is not None and self.third_weight is not None:
            third = torch.view_as_real(found.third - self.moments.third).square().sum(dim=-1)
            total = total + third_share * (third * self.third_weight).sum()
        return total


def second_shares(rings: MomentRings) -> Tensor:
    """How much of a number each part of M2 is: (orders + 1, K, K, 2).

    M2 is Hermitian, so that numbers off its diagonal stand twice, and those on it are real; order 0 is real throughout.
    """
    count = len(rings.radii)
    share = torch.full((rings.orders + 1, count, count, 2), 0.5, dtype=torch.float64)
    diagonal = torch.arange(count)
    share[:, diagonal, diagonal] = torch.tensor([1.0, 0.0], dtype=torch.float64)
    share[0, ..., 1] = 0
    return share


def third_shares(rings: MomentRings) -> Tensor:
    """How much of a number each element of M3 is: (pairs, K3, K3, K3).

    Of E a_m(k) a_n(k') ā_{m+n}(k''), factors of equal order may change places; with n = 0 the first and the last may,
    which gives the conjugate.
    """
    first, second, third = torch.meshgrid(*[torch.arange(rings.third_rings)] * 3, indexing="ij")
    share = torch.ones((len(rings.pairs), *first.shape), dtype=torch.float64)
    equal = (first == second).long() + (second == third).long() + (first == third).long()
    for index, (m, n) in enumerate(rings.pairs):
        if m == 0:  # all three: in six ways, in three where two rings are the same, in one where all are
            share[index] = 1 / torch.tensor([6.0, 3.0, 1.0, 1.0], dtype=torch.float64)[equal]
        elif n == 0:
            share[index] = torch.where(first == third, 1.0, 0.5)
        elif m == n:
            share[index] = torch.where(first == second, 1.0, 0.5)
    return share


@dataclass(frozen=True)
class MomentModel:
    """Predicts moments on `rings` of a structure in `ball` whose views have a density of degree `density_degree`."""

    ball: BallBasis
    rings: MomentRings
    density_degree: int

    def __post_init__(self) -> None:
        if self.density_degree < 1:
            raise ValueError("a density of views has harmonics up to degree 1 at least")

    @cached_property
    def _transforms(self) -> list[Tensor]:
        return self.ball.transforms(self.rings.radii)

    @cached_property
    def _nodes(self) -> ViewNodes:
        return ViewNodes.of(self.ball.degree, self.rings.orders, self.density_degree)

    @property
    def density_size(self) -> int:
        """The number of c_lm; c_00 follows from the density's sum."""
        return (self.density_degree + 1) ** 2 - 1

    @cached_property
    def _harmonics(self) -> tuple[Tensor, Tensor]:
        """Harmonics of the density at the nodes, (V, P), those of even degree and those of odd, else 0."""
        values = torch.from_numpy(real_harmonics(self._nodes.directions, self.density_degree))[:, 1:]
        even = torch.from_numpy(degree_of_each(self.density_degree)[1:] % 2 == 0)
        return values * even, values * ~even

    def density(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """ρ at each node, times its area, and the same at the one opposite: two (V,), together 1."""
        even, odd = self._harmonics
        mean, difference = self._nodes.area.log() + even @ c, odd @ c
        here, opposite = torch.cat([mean + difference, mean - difference]).softmax(dim=0).chunk(2)
        return here, opposite

    def predict(self, x: Tensor, c: Tensor, *, third: bool = True) -> MomentSet:
        """Moments of x (size,) and c (density_size,), float64. Differentiable."""
        spheres = self.ball.on_spheres(x, self._transforms)
        return self._nodes.moments(spheres, *self.density(c), self.rings, third=third)


@dataclass(frozen=True)
class ViewNodes:
    """Nodes on half a sphere: from −ω a structure is seen mirrored, and its moments are the conjugate of those from ω.

    `directions` (V, 3) and `area` (V,). `slices`: for orders of even and of odd m, matrices (orders, V, n) that take
    the harmonics of their parity, `columns`, to a_m.
    """

    directions: FloatArray
    area: Tensor
    slices: tuple[Tensor, Tensor]
    columns: tuple[Tensor, Tensor]
    orders: int

    @classmethod
    def of(cls, degree: int, orders: int, density_degree: int) -> ViewNodes:
        """Enough nodes for products of two harmonics up to `degree` with those of a density."""
        fineness = degree + (density_degree + 1) // 2
        directions, area = sphere_nodes(fineness + 1 - fineness % 2)  # latitudes in even number: none on the equator
        half = directions[:, 2] > 0
        series = slice_series(view_rotations(directions[half]), degree, orders).transpose(0, 1)
        parity = degree_of_each(degree) % 2
        columns = (torch.from_numpy(np.flatnonzero(parity == 0)), torch.from_numpy(np.flatnonzero(parity == 1)))
        slices = (series[0::2][..., columns[0]].contiguous(), series[1::2][..., columns[1]].contiguous())
        return cls(directions[half], torch.from_numpy(area[half]), slices, columns, orders)

    def moments(
        self, spheres: Tensor, here: Tensor, opposite: Tensor, rings: MomentRings, *, third: bool = True
    ) -> MomentSet:
        """Moments of a structure's A ((degree + 1)², K), seen from the nodes and from opposite so often, (V,) each."""
        a = self.series_of(spheres)
        both, excess = here + opposite, here - opposite
        conjugate = a.conj()
        mean, difference = ((a * w[:, None]).transpose(1, 2) @ conjugate for w in (both, excess))
        second = torch.complex(mean.real, difference.imag)
        return MomentSet(both @ a[0].real, second, _third(a, both, excess, rings) if third else None)

    def series_of(self, spheres: Tensor) -> Tensor:
        """a_m at each node, (orders + 1, V, K), of A (n, K)."""
        parts = []
        for slices, columns in zip(self.slices, self.columns, strict=True):
            seen = spheres[columns]
            parts.append(torch.complex(slices.real @ seen, slices.imag @ seen))
        even, odd = parts
        a = even.new_zeros((self.orders + 1, *even.shape[1:]))
        a[0::2], a[1::2] = even, odd
        return a


def _third(a: Tensor, both: Tensor, excess: Tensor, rings: MomentRings) -> Tensor:
    low, count = a[..., : rings.third_rings], rings.third_rings
    m, n = torch.tensor(rings.pairs).T
    left = (low[m][..., :, None] * low[n][..., None, :]).flatten(2)  # (pairs, V, K3²)
    right = low[m + n].conj()
    mean, difference = (left.transpose(1, 2) @ (right * w[:, None]) for w in (both, excess))
    return torch.complex(mean.real, difference.imag).view(len(m), count, count, count)
