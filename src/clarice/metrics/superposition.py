"""The search behind `metrics.registration`: which turn, shift and hand lay one map best on another.

Everything happens on Fourier coefficients within a few shells. With p on the map's own half ball and s = ±1
its hand, the map turned by A and moved by t agrees with the reference by

    S(A, t) = Σ_p w(|p|) Re[ R(A p) · conj M(s p) · exp(2πi p·t′ / L) ],   t′ = Aᵀ t.

For one rotation all shifts come from one inverse FFT; A is then refined with the analytic gradient. The
reference and its slopes are looked up in tables of their spectra, twice oversampled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as nn
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from clarice.geometry.fourier import centred_fft3, centred_ifft3, resize_centred
from clarice.geometry.so3 import angle_between_deg, rotation_grid

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Coefficients weaker than this share of the strongest shell's power are not lifted by whitening.
POWER_FLOOR = 1e-6
CHUNK_POINTS = 400_000
OVERSAMPLING = 2


@dataclass(frozen=True)
class Superposition:
    """`x_ref = rotation @ (hand · x_map) + shift_px`, hand −1 where mirrored; `score` is about 1 at most."""

    rotation: FloatArray
    shift_px: FloatArray
    mirrored: bool
    score: float


@dataclass(frozen=True)
class Band:
    """Coefficients of a map and its reference up to shell `radius` of a box of `box` pixels.

    `points` (m, 3) are integer frequencies (x, y, z) with x ≥ 0, `shells` (m,) their rounded radii,
    `map_values` (m,) the map's coefficients there, `weights` (radius + 1,) what each shell counts.
    `reference` (B, B, B) is the reference cut to the band, with centre B // 2.
    """

    box: int
    radius: int
    points: FloatArray
    shells: NDArray[np.int64]
    map_values: ComplexArray
    reference: Tensor
    weights: FloatArray

    @property
    def multiplicity(self) -> FloatArray:
        """2 for elements that stand for their Hermitian partner as well, else 1: (m,)."""
        return np.where(self.points[:, 0] > 0, 2.0, 1.0)

    def handed(self, mirrored: bool) -> ComplexArray:
        """The map's coefficients in the hand asked for: those of the inverted map are the conjugates."""
        return self.map_values.conj() if mirrored else self.map_values

    @cached_property
    def table(self) -> Tensor:
        """Oversampled spectra of r, x r, y r, z r (r the reference), real and imaginary: (8, P, P, P)."""
        edge = self.reference.shape[-1]
        axis = torch.arange(edge, dtype=torch.float32) - edge // 2
        x = axis.expand(edge, edge, edge)
        levers = torch.stack([torch.ones_like(x), x, x.transpose(1, 2), x.transpose(0, 2)])
        # Linear look-up multiplies real space by sinc² along each axis; that is divided out beforehand.
        droop = torch.sinc(axis / (OVERSAMPLING * edge)) ** 2
        flat = self.reference / (droop[:, None, None] * droop[:, None] * droop)
        spectra = centred_fft3(resize_centred(levers * flat, OVERSAMPLING * edge, 3))
        return torch.view_as_real(spectra).permute(0, 4, 1, 2, 3).flatten(0, 1).contiguous()

    def look_up(self, points: FloatArray, slopes: bool) -> NDArray[np.complex64]:
        """Spectra of r, and if asked for x r, y r, z r, at `points` (m, 3) in Fourier pixels: (1 or 4, m)."""
        table = self.table if slopes else self.table[:2]
        edge = table.shape[-1]
        place = (torch.as_tensor(points, dtype=torch.float32) * OVERSAMPLING + edge // 2) * (2 / (edge - 1)) - 1
        found = nn.grid_sample(table[None], place[None, None, None], align_corners=True)[0, :, 0, 0]  # (2 or 8, m)
        values: NDArray[np.complex64] = torch.complex(found[0::2], found[1::2]).numpy()
        return values

    def sample(self, rotations: FloatArray) -> NDArray[np.complex64]:
        """Reference coefficients at `A p`, (n, m)."""
        turned = self.points @ np.swapaxes(rotations, -1, -2)
        values: NDArray[np.complex64] = self.look_up(turned.reshape(-1, 3), slopes=False)[0]
        return values.reshape(len(rotations), -1)

    def shell_sums(self, values: FloatArray) -> FloatArray:
        """Sums of `values` (m,) over each shell of the whole ball, (radius + 1,)."""
        return np.asarray(np.bincount(self.shells, self.multiplicity * values, self.radius + 1), dtype=np.float64)


def make_band(map_spectrum: Tensor, reference_spectrum: Tensor, radius: int) -> Band:
    """The band up to shell `radius` of two centred spectra (L, L, L), whitened."""
    box = map_spectrum.shape[-1]
    small = min(box, 2 * radius + 8)
    cut = resize_centred(map_spectrum, small, 3).numpy()
    reference = centred_ifft3(resize_centred(reference_spectrum, small, 3)).real
    side = np.arange(-radius, radius + 1)
    z, y, x = np.meshgrid(side, side, np.arange(radius + 1), indexing="ij")
    shells = np.rint(np.sqrt(x**2 + y**2 + z**2)).astype(np.int64)
    kept = (shells >= 1) & (shells <= radius) & (np.abs(np.stack([x, y, z])) < box / 2).all(axis=0)
    points = np.stack([x[kept], y[kept], z[kept]], axis=-1)
    centre = small // 2
    values = cut[points[:, 2] + centre, points[:, 1] + centre, points[:, 0] + centre].astype(np.complex128)
    unweighted = np.ones(radius + 1)
    band = Band(box, radius, points.astype(np.float64), shells[kept], values, reference, unweighted)
    return replace(band, weights=_whitening(band))


def _whitening(band: Band) -> FloatArray:
    """1 / √(power of the map · power of the reference) by shell, scaled so that equal maps score 1."""
    counts = band.shell_sums(np.ones(len(band.points)))
    powers = []
    for values in (band.map_values, band.sample(np.eye(3)[None])[0]):
        power = band.shell_sums(np.abs(values) ** 2) / np.maximum(counts, 1)
        powers.append(np.maximum(power, POWER_FLOOR * power.max() + np.finfo(float).tiny))
    return np.asarray(1 / np.sqrt(powers[0] * powers[1]) / counts.sum())


def weighted_by_agreement(band: Band, found: Superposition) -> Band:
    """The band with shells weighted by f / (1 − f²), f their correlation at `found`.

    The best weights when the map is the reference plus noise of that strength in each shell.
    """
    sampled, values = band.sample(found.rotation[None])[0], band.handed(found.mirrored)
    phase = np.exp(2j * np.pi * (band.points @ found.rotation.T @ found.shift_px) / band.box)
    cross = band.shell_sums((sampled * values.conj() * phase).real)
    power = np.sqrt(band.shell_sums(np.abs(sampled) ** 2) * band.shell_sums(np.abs(values) ** 2))
    agreement = np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)
    emphasis = np.clip(agreement, 0, 0.95) / (1 - np.clip(agreement, 0, 0.95) ** 2)
    counts = band.shell_sums(np.ones(len(band.points)))
    total = (emphasis * counts).sum()
    if total <= 0:
        return band
    return replace(band, weights=_whitening(band) * emphasis * counts.sum() / total)


def coarse_search(
    band: Band, spacing_deg: float, max_shift_px: float, hands: tuple[bool, ...], keep: int
) -> list[Superposition]:
    """The `keep` best superpositions of each hand on a grid of rotations, 0.8 · `spacing_deg` apart."""
    grid = rotation_grid(spacing_deg)
    edge = 2 * ((3 * band.radius + 1) // 2)
    lags = np.fft.fftfreq(edge, 1 / band.box)
    allowed = torch.as_tensor(lags[:, None, None] ** 2 + lags[:, None] ** 2 + lags**2 <= max_shift_px**2)
    x, y, z = band.points.astype(np.int64).T
    where = torch.as_tensor((z % edge * edge + y % edge) * (edge // 2 + 1) + x)
    weights = band.weights[band.shells]
    scores, lag_index = (np.empty((len(hands), len(grid))) for _ in range(2))
    step = max(1, CHUNK_POINTS // len(band.points))
    for start in range(0, len(grid), step):
        sampled = band.sample(grid[start : start + step]) * weights
        for row, mirrored in enumerate(hands):
            product = torch.as_tensor(sampled * band.handed(mirrored).conj(), dtype=torch.complex64)
            cells = product.new_zeros((len(sampled), edge * edge * (edge // 2 + 1)))
            cells[:, where] = product
            correlation = torch.fft.irfftn(cells.reshape(-1, edge, edge, edge // 2 + 1), dim=(1, 2, 3))
            best = torch.where(allowed, correlation, -torch.inf).flatten(1).max(dim=1)
            scores[row, start : start + step] = best.values.numpy() * edge**3
            lag_index[row, start : start + step] = best.indices.numpy()
    found: list[Superposition] = []
    for row, mirrored in enumerate(hands):
        for index in _apart(grid, scores[row], 0.8 * spacing_deg, keep):
            lag_z, lag_y, lag_x = np.unravel_index(int(lag_index[row, index]), (edge,) * 3)
            shift = grid[index] @ lags[[lag_x, lag_y, lag_z]]
            found.append(Superposition(grid[index], shift, mirrored, float(scores[row, index])))
    return found


def _apart(rotations: FloatArray, scores: FloatArray, distance_deg: float, keep: int) -> list[int]:
    """Indices of the best scores, best first, none within `distance_deg` of a better one."""
    order = np.argsort(-scores, kind="stable")
    chosen: list[int] = []
    while len(chosen) < keep and len(order):
        chosen.append(int(order[0]))
        order = order[angle_between_deg(rotations[order], rotations[chosen[-1]]) >= distance_deg]
    return chosen


def _left_jacobian(vector: FloatArray) -> FloatArray:
    """J with exp(v + dv) = exp(J dv) exp(v) to first order (Solà et al. 2018, eq. 145)."""
    angle = float(np.linalg.norm(vector))
    cross = np.cross(np.eye(3), vector)
    if angle < 1e-6:
        return np.eye(3) + cross / 2
    return np.asarray(
        np.eye(3) + (1 - np.cos(angle)) / angle**2 * cross + (angle - np.sin(angle)) / angle**3 * (cross @ cross)
    )


def refine(band: Band, start: Superposition, max_iterations: int = 30) -> Superposition:
    """The local maximum of the score uphill from `start`, over rotation and shift together (L-BFGS)."""
    edge = band.reference.shape[-1]
    values = band.handed(start.mirrored).conj() * band.weights[band.shells] * band.multiplicity
    shift_scale = band.box / 4  # puts shifts on the scale of rotations, in radians
    first_shift = start.rotation.T @ start.shift_px

    def loss(unknowns: FloatArray) -> tuple[float, FloatArray]:
        turned = band.points @ (Rotation.from_rotvec(unknowns[:3]).as_matrix() @ start.rotation).T
        sampled = band.look_up(turned, slopes=True)
        lag = first_shift + unknowns[3:] * shift_scale
        phased = values * np.exp(2j * np.pi * (band.points @ lag) / band.box)
        terms = sampled[0] * phased
        slopes = (-2j * np.pi / edge * sampled[1:] * phased).real.T  # (m, 3)
        turn = _left_jacobian(unknowns[:3]).T @ np.cross(turned, slopes).sum(axis=0)
        move = -2 * np.pi / band.box * shift_scale * (terms.imag @ band.points)
        return -float(terms.real.sum()), -np.concatenate([turn, move])

    limits = [(-0.6, 0.6)] * 3 + [(-0.5, 0.5)] * 3
    result = minimize(
        loss,
        np.zeros(6),
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": max_iterations, "ftol": 1e-7, "gtol": 1e-5},
    )
    rotation = Rotation.from_rotvec(result.x[:3]).as_matrix() @ start.rotation
    shift = rotation @ (first_shift + result.x[3:] * shift_scale)
    return Superposition(rotation, shift, start.mirrored, -float(result.fun))


def score(band: Band, at: Superposition) -> float:
    """The score of `at` on `band`, ≤ about 1."""
    values = band.handed(at.mirrored).conj() * band.weights[band.shells] * band.multiplicity
    phase = np.exp(2j * np.pi * (band.points @ at.rotation.T @ at.shift_px) / band.box)
    return float((band.sample(at.rotation[None])[0] * values * phase).real.sum())


def spectrum_of(volume: Tensor) -> Tensor:
    """Centred spectrum (L, L, L), complex64, of a real volume."""
    return centred_fft3(volume.to(torch.float32))
