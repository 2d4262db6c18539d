"""Products of functions on the sphere, exact in their spherical harmonics: what equivariant networks multiply by.

Two functions of degrees up to l multiply to one of degrees up to 2 l. Its part up to l follows exactly from its values
on a grid that integrates three harmonics at once: Gauss–Legendre along z, equal steps around it. That costs l³, where
Clebsch–Gordan sums cost l⁶ (Luo, Chen and Krishnapriyan, ICLR 2024, the Gaunt tensor product). The product of turned
or mirrored functions is the turned or mirrored product, so whatever is made of such products, of sums over channels
and of numbers that do not turn is equivariant under O(3).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from clarice.geometry.harmonics import real_harmonics


class SphereGrid(nn.Module):
    """Harmonics up to `degree`, (…, (degree + 1)²) in the order of `real_harmonics`, to values on a grid and back.

    The grid has `latitudes` × `meridians` points; the way back is exact for functions of degree up to 2 · `degree`.
    """

    legendre: Tensor
    waves: Tensor
    analysis: Tensor
    around: Tensor
    place: Tensor
    column: Tensor

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree
        self.latitudes, self.meridians = (3 * degree) // 2 + 1, 3 * degree + 1
        z, weights = np.polynomial.legendre.leggauss(self.latitudes)
        zero_meridian = np.stack([np.sqrt(1 - z**2), 0 * z, z], axis=-1)
        harmonics = real_harmonics(zero_meridian, degree)  # sin mφ is 0 there, so both signs of m take cos's factor
        legendre = np.zeros((2 * degree + 1, degree + 1, self.latitudes))
        column = np.zeros((degree + 1) ** 2, dtype=np.int64)
        for l in range(degree + 1):  # noqa: E741 — the degree's name in the field
            for m in range(-l, l + 1):
                legendre[m + degree, l] = harmonics[:, l * l + l + abs(m)]
                column[l * l + l + m] = (m + degree) * (degree + 1) + l
        azimuth = 2 * np.pi * np.arange(self.meridians) / self.meridians
        orders = np.arange(-degree, degree + 1)[:, None]
        waves = np.where(orders < 0, np.sin(-orders * azimuth), np.cos(orders * azimuth))
        place = np.full(legendre.shape[0] * (degree + 1), len(column))
        place[column] = np.arange(len(column))
        step = 2 * np.pi / self.meridians
        for name, values in (
            ("legendre", legendre),
            ("waves", waves),
            ("analysis", (legendre * weights).transpose(0, 2, 1)),
            ("around", (step * waves).T),
        ):
            self.register_buffer(name, torch.from_numpy(values.copy()).float(), persistent=False)
        for name, index in (("place", place), ("column", column)):
            self.register_buffer(name, torch.from_numpy(index), persistent=False)

    def values(self, coefficients: Tensor) -> Tensor:
        """Values (…, latitudes, meridians) of functions with `coefficients` (…, (degree + 1)²)."""
        shape = coefficients.shape[:-1]
        flat = nn.functional.pad(coefficients.reshape(-1, coefficients.shape[-1]), (0, 1))
        by_order = flat[:, self.place].view(len(flat), -1, self.degree + 1).transpose(0, 1)
        along = torch.bmm(by_order, self.legendre)  # (orders, rows, latitudes)
        return (along.permute(1, 2, 0) @ self.waves).view(*shape, self.latitudes, self.meridians)

    def coefficients(self, values: Tensor) -> Tensor:
        """Harmonics (…, (degree + 1)²) of functions with `values` (…, latitudes, meridians)."""
        shape = values.shape[:-2]
        along = values.reshape(-1, self.latitudes, self.meridians) @ self.around  # (rows, latitudes, orders)
        by_order = torch.bmm(along.permute(2, 0, 1), self.analysis)  # (orders, rows, degrees)
        flat = by_order.transpose(0, 1).reshape(len(along), -1)
        return flat[:, self.column].view(*shape, -1)

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """Harmonics of the product of two functions, as far as `degree`."""
        return self.coefficients(self.values(first) * self.values(second))
