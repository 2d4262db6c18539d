"""Registration of one map to another: an ab initio map is known up to a rotation, a shift and its hand.

Convention: `x_ref = rotation @ (h · x_map) + shift_px`, vectors (x, y, z) in pixels from index L // 2, h = −1
for a mirrored map (point inversion), else +1. Poses found against the map carry over by `carry_poses`:

    R_ref = J · R_map · rotationᵀ,  shift_ref = shift_map + (R_ref @ shift_px)_xy,

with J the identity, or diag(−1, −1, 1) for a mirrored map: a map's projection along a view is its inverse's
projection along the same view, turned by half a turn in the plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from clarice.core.errors import InputError
from clarice.core.particles import Poses
from clarice.geometry.fourier import centred_ifft3, radius_grid, shell_mean
from clarice.geometry.nufft import fourier_at
from clarice.metrics.masks import extent_px, soft_sphere
from clarice.metrics.shells import as_array
from clarice.metrics.superposition import (
    Superposition,
    coarse_search,
    make_band,
    refine,
    score,
    spectrum_of,
    weighted_by_agreement,
)

FloatArray = NDArray[np.float64]

GRID_SPACING_DEG = 18.0
COARSE_SHELLS = 7
FINEST_SHELL = 28
FEWEST_SHELLS = 4
# By so much the logarithm of a spectrum's power falls beside another's where it breaks off: to a twentieth.
BREAK = 3.0
TINY_POWER = 1e-30
EDGE_PX = 2.0
# J, half a turn about the beam.
HALF_TURN = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Registration:
    """A map laid on its reference; conventions at the top of this module.

    `volume` (L, L, L) is the map in the reference's frame, cut to the inscribed sphere and band-limited to
    the Nyquist sphere. `correlation` is Pearson's, inside the inscribed sphere; `other_hand_correlation` is
    that of the best superposition of the opposite hand, None where it was not allowed.
    """

    volume: NDArray[np.float32]
    rotation: FloatArray
    shift_px: FloatArray
    mirrored: bool
    correlation: float
    other_hand_correlation: float | None


def register(
    map: ArrayLike,
    reference: ArrayLike,
    *,
    allow_mirror: bool = True,
    max_shift_px: float | None = None,
) -> Registration:
    """Lays `map` on `reference`, (L, L, L) each, over rotations, shifts and (unless forbidden) both hands.

    Shifts up to `max_shift_px` pixels (a quarter of the box by default). Shells count by how well the maps
    agree in them. Raises InputError when the boxes differ, values are not finite or a map is constant.
    """
    moving, fixed = _checked(map, "map"), _checked(reference, "reference")
    if moving.shape != fixed.shape:
        raise InputError(
            f"a map of box {moving.shape[-1]} cannot be registered to a reference of box {fixed.shape[-1]}: "
            "resample one of them to the other's box and pixel size"
        )
    box = fixed.shape[-1]
    hands = (False, True) if allow_mirror else (False,)
    best = _search(moving, fixed, hands, box / 4 if max_shift_px is None else max_shift_px)
    registered = [apply_superposition(moving, found.rotation, found.shift_px, found.mirrored) for found in best]
    correlations = [correlation_in_sphere(volume, fixed.numpy()) for volume in registered]
    return Registration(
        volume=registered[0],
        rotation=best[0].rotation,
        shift_px=best[0].shift_px,
        mirrored=best[0].mirrored,
        correlation=correlations[0],
        other_hand_correlation=correlations[1] if allow_mirror else None,
    )


def _checked(volume: ArrayLike, name: str) -> Tensor:
    values = torch.as_tensor(as_array(volume), dtype=torch.float32)
    if values.ndim != 3 or len(set(values.shape)) != 1 or values.shape[-1] < 8:
        raise InputError(f"the {name} must be a cube of at least 8 pixels, not of shape {tuple(values.shape)}")
    if not torch.isfinite(values).all():
        raise InputError(f"the {name} holds values that are not numbers: mend or replace the file")
    if values.min() == values.max():
        raise InputError(f"the {name} is constant, so there is nothing to register: check the file")
    return values


def _surroundings(values: Tensor) -> Tensor:
    """Mean grey value outside the inscribed sphere, where no particle is."""
    return values[radius_grid(values.shape[-1], 3) > values.shape[-1] / 2].mean()


def _search(moving: Tensor, fixed: Tensor, hands: tuple[bool, ...], max_shift_px: float) -> list[Superposition]:
    """The best superposition of each hand, best first."""
    box = fixed.shape[-1]
    sphere = torch.as_tensor(soft_sphere(box, box / 2 - 2 * EDGE_PX, EDGE_PX))
    spectra = [spectrum_of((volume - _surroundings(volume)) * sphere) for volume in (moving, fixed)]
    # A shell tells views apart by its radius times the particle's extent: small particles need more of them.
    limit = (box - 1) // 2
    held = min(limit, _shells_held(*spectra))
    shells = min(held, round(COARSE_SHELLS * float(np.clip(0.65 * box / extent_px(fixed.numpy()), 1, 1.75))))
    coarse = make_band(spectra[0], spectra[1], shells)
    candidates = coarse_search(coarse, GRID_SPACING_DEG, max_shift_px, hands, keep=10)
    refined = _leaders([refine(coarse, each, max_iterations=12) for each in candidates], hands, keep=3)
    middle = make_band(spectra[0], spectra[1], min(held, round(1.75 * shells)))
    leaders = _leaders([refine(middle, each) for each in refined], hands, keep=1)
    fine = make_band(spectra[0], spectra[1], min(limit, FINEST_SHELL))
    weighted = weighted_by_agreement(fine, leaders[0])
    last = [refine(weighted, each) for each in leaders]
    weighted = weighted_by_agreement(fine, max(last, key=lambda each: each.score))
    return sorted(last, key=lambda each: -score(weighted, each))


def _shells_held(moving: Tensor, fixed: Tensor) -> int:
    """The last shell before one of two spectra (L, L, L) breaks off, beside the other; FEWEST_SHELLS at least.

    A map that was filtered or fitted up to some frequency holds next to nothing beyond it, and whitening would lift
    that to the weight of all the rest.
    """
    powers = [shell_mean(spectrum.abs().square(), 3)[1:] for spectrum in (moving, fixed)]
    ratio = (powers[0].clamp_min(TINY_POWER) / powers[1].clamp_min(TINY_POWER)).log()
    fall = torch.maximum(ratio.cummax(dim=0).values - ratio, ratio - ratio.cummin(dim=0).values)
    broken = (fall > BREAK).nonzero()
    return max(FEWEST_SHELLS, int(broken[0]) if len(broken) else len(ratio))


def _leaders(found: list[Superposition], hands: tuple[bool, ...], keep: int) -> list[Superposition]:
    """The `keep` best of each hand, best first."""
    ranked = sorted(found, key=lambda each: -each.score)
    kept = [each for hand in hands for each in [one for one in ranked if one.mirrored is hand][:keep]]
    return sorted(kept, key=lambda each: -each.score)


def apply_superposition(
    volume: ArrayLike, rotation: FloatArray, shift_px: FloatArray, mirrored: bool
) -> NDArray[np.float32]:
    """`volume` (L, L, L) turned, shifted and (if `mirrored`) inverted by this module's convention.

    Exact on the Nyquist sphere: the transform G(q) = exp(−2πi q·shift) M(± rotationᵀ q) is evaluated, not
    interpolated. What lies outside the inscribed sphere is cut off first, as it would leave the box.
    """
    values = torch.as_tensor(as_array(volume), dtype=torch.float32)
    box = values.shape[-1]
    background = _surroundings(values)
    values = (values - background) * torch.as_tensor(soft_sphere(box, box / 2 - EDGE_PX, EDGE_PX))
    inside = radius_grid(box, 3) < box / 2
    points = (torch.nonzero(inside).flip(-1) - box // 2).to(torch.float64) / box  # (m, 3): x, y, z
    turned = points @ torch.as_tensor(rotation if not mirrored else -rotation)
    spectrum = torch.zeros((box, box, box), dtype=torch.complex64)
    phase = torch.polar(
        torch.ones(len(points), dtype=torch.float64), -2 * torch.pi * points @ torch.as_tensor(shift_px)
    )
    spectrum[inside] = fourier_at(values, turned.to(torch.float32)) * phase.to(torch.complex64)
    return np.asarray((centred_ifft3(spectrum).real + background).numpy(), dtype=np.float32)


def correlation_in_sphere(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of two volumes (L, L, L) inside the inscribed sphere; 0 where one is constant."""
    values_a, values_b = as_array(a), as_array(b)
    inside = radius_grid(values_a.shape[-1], 3).numpy() < values_a.shape[-1] / 2
    centred_a, centred_b = (values[inside] - values[inside].mean() for values in (values_a, values_b))
    norm = np.sqrt((centred_a**2).sum() * (centred_b**2).sum())
    return float((centred_a * centred_b).sum() / norm) if norm > 0 else 0.0


def carry_poses(poses: Poses, registration: Registration) -> Poses:
    """Poses found against the map, as poses against the reference (formula at the top of this module)."""
    turned = poses.rotations @ registration.rotation.T
    rotations = HALF_TURN @ turned if registration.mirrored else turned
    return Poses(rotations, poses.shifts_px + (rotations @ registration.shift_px)[:, :2])


def resample(volume: ArrayLike, box: int, scale: float) -> NDArray[np.float32]:
    """`volume` (L, L, L) on a grid of `box` pixels, each `scale` of its pixels wide; grey values are kept.

    `scale` is new pixel size / old pixel size; frequencies beyond either grid's Nyquist sphere are left out.
    """
    values = torch.as_tensor(as_array(volume), dtype=torch.float32)
    background = _surroundings(values)
    radius = radius_grid(box, 3)
    inside = (radius < box / 2) & (radius / box < 0.5 * scale)
    points = (torch.nonzero(inside).flip(-1) - box // 2).to(torch.float32) / (box * scale)
    spectrum = torch.zeros((box, box, box), dtype=torch.complex64)
    spectrum[inside] = fourier_at(values - background, points) / scale**3
    return np.asarray((centred_ifft3(spectrum).real + background).numpy(), dtype=np.float32)
