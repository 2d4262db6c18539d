"""Cartesian ↔ polar: exact rings in Fourier space, and Gaussian radial-basis resampling in real space.

Angle θ runs from +x towards +y index; turning the content of an image by +α shifts its polar form by +α.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from clarice.geometry.nufft import fourier_at, spread_from

Basis = Literal["radial", "bilinear"]
# Rows, columns and weights of a sparse matrix.
SparseEntries = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class FourierRings:
    """Concentric rings in the Fourier plane of images with edge `box`.

    `radii` (R,) in Fourier pixels (cycles per box), `n_angles` T (even) equally spaced angles on the full circle.
    Real images are Hermitian, F(θ + π) = conj F(θ), so samples are held on the half circle, (n, R, T // 2).
    """

    box: int
    radii: tuple[float, ...]
    n_angles: int

    @classmethod
    def up_to(cls, box: int, max_radius: float, diameter_px: float, first: float = 1.0) -> FourierRings:
        """Rings one Fourier pixel apart up to `max_radius`, with angles enough for content of `diameter_px`.

        A ring of radius r sees angular frequencies up to about 2π r (D / 2) / L (Bessel cut-off) plus a margin.
        """
        count = max(1, math.floor(max_radius - first) + 1)
        bandwidth = math.pi * max_radius * diameter_px / box
        n_angles = 2 * math.ceil((2 * bandwidth + 10) / 2)
        n_angles = 8 * math.ceil(n_angles / 8)
        return cls(box, tuple(first + i for i in range(count)), n_angles)

    @classmethod
    def matching(cls, box: int, max_radius: float, diameter_px: float) -> FourierRings:
        """Rings on which noisy images, whose noise fills the box, meet references that fill `diameter_px`.

        Their products hold angular frequencies up to the sum of both; with fewer angles, noise from outside the
        particle folds into the scores and the averages.
        """
        return cls.up_to(box, max_radius, (box + diameter_px) / 2)

    @property
    def count(self) -> int:
        return len(self.radii)

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        """Half-circle sample points (R · T // 2, 2), (x, y) in cycles per pixel."""
        theta = 2 * math.pi * torch.arange(self.n_angles // 2, dtype=torch.float64) / self.n_angles
        radii = torch.tensor(self.radii, dtype=torch.float64)[:, None] / self.box
        points = torch.stack([radii * torch.cos(theta), radii * torch.sin(theta)], dim=-1)
        return points.reshape(-1, 2).to(device=device, dtype=torch.float32)

    def area_weights(self, device: torch.device | None = None) -> Tensor:
        """(R,) weights so that Σ_r w Σ_θ |F|² approximates Σ_x |f|² of an f with mean 0: ring area over T and L²."""
        radii = torch.tensor(self.radii, dtype=torch.float64)
        spacing = self.radii[1] - self.radii[0] if self.count > 1 else 1.0
        weights = 2 * math.pi * radii * spacing / self.n_angles / self.box**2
        return weights.to(device=device, dtype=torch.float32)

    def shift_phases(self, shifts_px: Tensor) -> Tensor:
        """Factors (s, R, T // 2) that move image content by `shifts_px` (s, 2), (x, y) pixels."""
        points = self.frequencies(shifts_px.device)
        angle = -2 * math.pi * (shifts_px.float() @ points.T)
        return torch.polar(torch.ones_like(angle), angle).view(len(shifts_px), self.count, self.n_angles // 2)

    def sample(self, images: Tensor) -> Tensor:
        """Exact Fourier samples (n, R, T // 2) of real images (n, L, L); differentiable."""
        values = fourier_at(images, self.frequencies(images.device))
        return values.view(len(images), self.count, self.n_angles // 2)

    def sample_adjoint(self, rings: Tensor) -> Tensor:
        """Exact adjoint of `sample` onto real images (n, L, L)."""
        return spread_from(rings.reshape(len(rings), -1), self.frequencies(rings.device), self.box).real

    def to_images(self, rings: Tensor) -> Tensor:
        """Images (n, L, L) from rings by area-weighted summation over the whole plane.

        Inverse of `sample` up to the band limit, save the mean grey value, which no ring from radius 1 on holds.
        """
        weights = 2 * self.area_weights(rings.device)[:, None]  # each half-circle sample stands for its conjugate too
        return self.sample_adjoint(rings * weights)


def hartley(rings: Tensor) -> Tensor:
    """Real full-circle signals (n, R, T) = Re F + Im F of Hermitian half-circle rings (n, R, T // 2).

    Re F has period π and Im F changes sign after π, so products of unlike parts cancel over the circle and
    Σ_θ F_a(θ + φ) conj F_b(θ) equals the same sum over the Hartley forms: angular correlation stays exact.
    """
    return torch.cat([rings.real + rings.imag, rings.real - rings.imag], dim=-1)


def from_hartley(signals: Tensor) -> Tensor:
    """Inverse of `hartley`: complex half-circle rings (n, R, T // 2)."""
    first, second = signals.chunk(2, dim=-1)
    return torch.complex((first + second) / 2, (first - second) / 2)


@dataclass(frozen=True)
class RealPolarGrid:
    """Polar grid in real space: `n_rings` rings up to `max_radius_px` and `n_angles` angles, about index L // 2.

    Values move between grids by a weighted Gaussian radial basis of width `sigma_px` (Andén & Sagemüller 2025):
    stable where bilinear interpolation is not, since every output is a normalised average. `basis` "bilinear" takes
    the four nearest samples of the other grid instead, for comparison; the centre pixel is the innermost ring's mean.
    """

    box: int
    n_rings: int
    n_angles: int
    max_radius_px: float
    sigma_px: float = 0.6
    basis: Basis = "radial"

    def __post_init__(self) -> None:
        if self.basis == "bilinear" and self.max_radius_px > (self.box - 1) // 2:
            raise ValueError(f"rings of {self.max_radius_px:g} px reach beyond a box of {self.box} px")

    def points(self) -> Tensor:
        """Sample points (n_rings · n_angles, 2), (x, y) pixel indices, float64."""
        radii = (torch.arange(self.n_rings, dtype=torch.float64) + 0.5) * self.max_radius_px / self.n_rings
        theta = 2 * math.pi * torch.arange(self.n_angles, dtype=torch.float64) / self.n_angles
        x = radii[:, None] * torch.cos(theta) + self.box // 2
        y = radii[:, None] * torch.sin(theta) + self.box // 2
        return torch.stack([x, y], dim=-1).reshape(-1, 2)

    def to_polar(self, images: Tensor) -> Tensor:
        """Polar form (n, n_rings, n_angles) of images (n, L, L)."""
        matrix = _resampling(self, inverse=False).to(images.device)
        flat = torch.sparse.mm(matrix, images.reshape(len(images), -1).float().T)
        return flat.T.reshape(len(images), self.n_rings, self.n_angles)

    def to_cartesian(self, polar: Tensor) -> Tensor:
        """Images (n, L, L) from polar forms; zero outside the outermost ring."""
        matrix = _resampling(self, inverse=True).to(polar.device)
        flat = torch.sparse.mm(matrix, polar.reshape(len(polar), -1).float().T)
        return flat.T.reshape(len(polar), self.box, self.box)


@lru_cache(maxsize=8)
def _resampling(grid: RealPolarGrid, *, inverse: bool) -> Tensor:
    """The sparse matrix from flattened images to flattened polar forms, or back."""
    if grid.basis == "radial":
        row, column, weights = _radial_basis(grid, inverse=inverse)
    else:
        row, column, weights = _from_polar(grid) if inverse else _to_polar(grid)
    shape = (grid.n_rings * grid.n_angles, grid.box**2)
    size = shape[::-1] if inverse else shape
    return torch.sparse_coo_tensor(torch.stack([row, column]), weights.float(), size, check_invariants=False).coalesce()


def _pixels(grid: RealPolarGrid) -> Tensor:
    """Pixels (L², 2) of an image, (x, y) indices, float64."""
    axis = torch.arange(grid.box, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def _radial_basis(grid: RealPolarGrid, *, inverse: bool) -> SparseEntries:
    """Row-normalised Gaussian weights: pixels → polar points, or back (weighted by each point's area)."""
    points, pixels = grid.points(), _pixels(grid)
    ring_width = grid.max_radius_px / grid.n_rings
    # Outer samples lie up to half their spacing from a pixel: the basis must be wide enough to reach one.
    width = max(grid.sigma_px, 0.5 * ring_width, math.pi * grid.max_radius_px / grid.n_angles / 2 if inverse else 0.0)
    sources, targets = (points, pixels) if inverse else (pixels, points)
    reach = 4 * width * (1 + 1e-9)  # neighbours at just this distance all belong, however they are rounded
    pairs = cKDTree(targets.numpy()).sparse_distance_matrix(cKDTree(sources.numpy()), reach, output_type="coo_matrix")
    row, column = torch.from_numpy(pairs.row).long(), torch.from_numpy(pairs.col).long()
    weights = torch.exp(-(torch.from_numpy(pairs.data) ** 2) / (2 * width**2))
    if inverse:
        weights *= torch.linalg.vector_norm(points - grid.box // 2, dim=-1)[column]
        inside = torch.linalg.vector_norm(pixels - grid.box // 2, dim=-1) <= grid.max_radius_px
        row, column, weights = row[inside[row]], column[inside[row]], weights[inside[row]]
    totals = torch.zeros(len(targets), dtype=torch.float64).index_add_(0, row, weights)
    return row, column, weights / totals.clamp_min(1e-12)[row]


def _to_polar(grid: RealPolarGrid) -> SparseEntries:
    """Bilinear weights of the four pixels around each polar point."""
    points = grid.points()
    corner = points.floor().long().clamp(max=grid.box - 2)
    entries = []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        away = (points - corner - torch.tensor([dx, dy])).abs()
        pixel = (corner[:, 1] + dy) * grid.box + corner[:, 0] + dx
        entries.append((torch.arange(len(points)), pixel, ((1 - away[:, 0]) * (1 - away[:, 1])).clamp_min(0)))
    row, column, weights = (torch.cat(part) for part in zip(*entries, strict=True))
    return row, column, weights


def _from_polar(grid: RealPolarGrid) -> SparseEntries:
    """Weights, linear in radius and in angle, of the four polar points around each pixel inside the outermost ring."""
    offset = _pixels(grid) - grid.box // 2
    radius = torch.linalg.vector_norm(offset, dim=-1)
    inside = (radius <= grid.max_radius_px).nonzero()[:, 0]
    ring = (radius[inside] * grid.n_rings / grid.max_radius_px - 0.5).clamp(0, grid.n_rings - 1)
    angle = torch.atan2(offset[inside, 1], offset[inside, 0]) * grid.n_angles / (2 * math.pi)
    centre, rim = inside[radius[inside] == 0], torch.arange(grid.n_angles)
    ring, angle, inside = (values[radius[inside] > 0] for values in (ring, angle, inside))
    entries = [(centre.expand(grid.n_angles), rim, torch.full((grid.n_angles,), 1 / grid.n_angles).double())]
    low_ring, low_angle = ring.floor(), angle.floor()
    for up, on in ((0, 0), (0, 1), (1, 0), (1, 1)):
        along = (1 - (ring - low_ring - up).abs()) * (1 - (angle - low_angle - on).abs())
        at_ring = (low_ring.long() + up).clamp(max=grid.n_rings - 1)
        at_angle = (low_angle.long() + on) % grid.n_angles
        entries.append((inside, at_ring * grid.n_angles + at_angle, along))
    row, column, weights = (torch.cat(part) for part in zip(*entries, strict=True))
    return row, column, weights
