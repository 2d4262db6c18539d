"""Class references from what the expectation step accumulated: Wiener-filtered, masked, centred."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clarice.geometry.fourier import radius_grid
from clarice.geometry.polar import FourierRings, from_hartley, hartley

# A class's own power spectrum may not fall below this share of the mean over classes: a class that once lost
# its details could never find them again.
PRIOR_FLOOR = 0.1
# Density below this share of an average's maximum has no say in where its centre is.
CENTRE_THRESHOLD = 0.25


@dataclass(frozen=True)
class ClassSums:
    """What averages are made from, mergeable by adding.

    `numerator` (K, R, T): Hartley rings Σ p H y, turned and shifted onto the class; `denominator` (K, R):
    Σ p H².
    """

    numerator: Tensor
    denominator: Tensor

    def __add__(self, other: ClassSums) -> ClassSums:
        return ClassSums(self.numerator + other.numerator, self.denominator + other.denominator)


def soft_disk(box: int, radius_px: float, edge_px: float = 4.0) -> Tensor:
    """(L, L): 1 inside `radius_px`, 0 beyond `edge_px` more, a raised cosine between."""
    beyond = ((radius_grid(box) - radius_px) / edge_px).clamp(0, 1)
    return 0.5 * (1 + torch.cos(math.pi * beyond))


def signal_power(sums: ClassSums, box: int) -> Tensor:
    """Estimated |X|² of each class and ring, (K, R): the average's power less its noise, L² / Σ H²."""
    denominator = sums.denominator.clamp_min(1e-6)
    power = (sums.numerator / denominator[..., None]).square().mean(dim=-1) - box**2 / denominator
    return power.clamp_min(0)


def spectral_prior(sums: ClassSums, box: int, floor: float = PRIOR_FLOOR) -> Tensor:
    """τ² of each class and ring, (K, R): its own signal power, smoothed along the radius.

    It never falls below the share `floor` of the mean over classes, weighted by the evidence in them.
    """
    power = signal_power(sums, box)
    weight = sums.denominator / sums.denominator.sum(dim=0, keepdim=True).clamp_min(1e-6)
    pooled = (power * weight).sum(dim=0, keepdim=True)
    padded = torch.nn.functional.pad(power[:, None], (1, 1), mode="replicate")
    smooth = torch.nn.functional.conv1d(padded, power.new_tensor([[[0.25, 0.5, 0.25]]]))[:, 0]
    return torch.maximum(smooth, floor * pooled)


def wiener(sums: ClassSums, prior: Tensor, box: int) -> Tensor:
    """Hartley rings (K, R, T) of `Σ H y / (Σ H² + L² / τ²)`: a Fourier sample has noise of variance L²."""
    regularised = sums.denominator + box**2 / prior.clamp_min(1e-12 * box**4)
    return sums.numerator / regularised[..., None]


def centre_of_mass(images: Tensor) -> Tensor:
    """Centre of mass (K, 2), (x, y) pixels from index L // 2, of the bright part of images (K, L, L)."""
    box = images.shape[-1]
    peak = images.amax(dim=(1, 2), keepdim=True)
    mass = (images - CENTRE_THRESHOLD * peak).clamp_min(0)
    total = mass.sum(dim=(1, 2)).clamp_min(1e-12)
    axis = torch.arange(box, dtype=images.dtype) - box // 2
    return (
        torch.stack([(mass.sum(dim=1) * axis).sum(dim=1), (mass.sum(dim=2) * axis).sum(dim=1)], dim=1) / total[:, None]
    )


def shift_rings(signals: Tensor, shifts_px: Tensor, rings: FourierRings) -> Tensor:
    """Hartley rings (K, R, T) with their content moved by `shifts_px` (K, 2)."""
    return hartley(from_hartley(signals) * rings.shift_phases(shifts_px))


def masked(signals: Tensor, rings: FourierRings, mask: Tensor) -> Tensor:
    """Hartley rings (K, R, T) of the images under `mask` (L, L)."""
    return hartley(rings.sample(rings.to_images(from_hartley(signals)) * mask))


def centred(signals: Tensor, rings: FourierRings, mask: Tensor, largest_px: float) -> tuple[Tensor, Tensor]:
    """Masked references centred by their centre of mass, and the moves (K, 2) that took them there."""
    images = rings.to_images(from_hartley(signals)) * mask
    move = -centre_of_mass(images)
    length = torch.linalg.vector_norm(move, dim=1, keepdim=True).clamp_min(1e-6)
    move = move * (largest_px / length).clamp(max=1)
    return masked(shift_rings(signals, move, rings), rings, mask), move


def turn(vectors: Tensor, angle_rad: Tensor) -> Tensor:
    """Vectors (n, 2), (x, y), turned by `angle_rad` (n,) from +x towards +y."""
    cosine, sine = angle_rad.cos(), angle_rad.sin()
    x, y = vectors[:, 0], vectors[:, 1]
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=1)
