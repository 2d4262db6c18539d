"""Class averages at any box from assignments: CTF-corrected, Wiener-filtered, with their resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.classify.align import Assignment
from clarice.classify.references import ClassSums, soft_disk, spectral_prior, wiener
from clarice.classify.ring_blocks import blocks_of
from clarice.core.particles import FloatArray, RowIndex
from clarice.core.progress import Progress, silent
from clarice.geometry.angular import from_spectrum, to_spectrum
from clarice.geometry.expectation import RingStack
from clarice.geometry.polar import FourierRings, from_hartley, hartley
from clarice.io.kept_results import Arrays, map_parts
from clarice.metrics.shells import resolution_at
from clarice.physics.noisy_set import CHUNK_PIXELS, NoisySet

# Where the correlation of two half averages falls below this, an average's details end.
FRC_THRESHOLD = 0.5


@dataclass(frozen=True)
class ClassAverages:
    """`images` (K, L, L), CTF-corrected, in units of the noise's standard deviation; zero for empty classes.

    `frc` (K, L // 2 + 1): correlation by shell of the averages of two halves of the members, corrected to
    that of the whole average; `resolution_angstrom` (K,) where it falls below 0.5, infinite for classes of
    fewer than two members.
    """

    images: Tensor
    frc: FloatArray
    resolution_angstrom: FloatArray


def aligned_rings(stack: RingStack, shifts_px: Tensor, angle_rad: Tensor) -> Tensor:
    """Hartley rings (n, R, T) of the filtered images, shifted by `shifts_px` and turned back by `angle_rad`.

    The angles are arbitrary: a turn is a phase in angular frequency.
    """
    signals = hartley(stack.filtered * stack.rings.shift_phases(shifts_px))
    spectrum = to_spectrum(signals)
    real, imaginary = spectrum.chunk(2, dim=-1)
    order = torch.arange(len(spectrum), dtype=torch.float32)[:, None]
    cosine, sine = (order * angle_rad).cos()[..., None], (order * angle_rad).sin()[..., None]
    # signal(θ + φ) has the spectrum exp(i m φ) times the signal's
    turned = torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1)
    return from_spectrum(turned, stack.rings.n_angles)


def summed(
    observed: NoisySet,
    assignment: Assignment,
    group: Tensor,
    n_groups: int,
    rings: FourierRings,
    progress: Progress = silent,
) -> ClassSums:
    """Sums over the particles of each group (n,), each weighted by its probability; −1 leaves one out."""
    members = torch.nonzero(group >= 0)[:, 0]
    step = max(8, CHUNK_PIXELS // (4 * rings.count * rings.n_angles))

    def work(part: RowIndex) -> Arrays:
        numerator = torch.zeros((n_groups, rings.count, rings.n_angles))
        denominator = torch.zeros((n_groups, rings.count))
        for rows in torch.split(members[torch.from_numpy(part)], step):
            stack = observed.rings(rings, rows.numpy())
            weight = assignment.probability[rows]
            aligned = aligned_rings(stack, assignment.shift_px[rows], assignment.angle_rad[rows])
            numerator.index_add_(0, group[rows], aligned * weight[:, None, None])
            denominator.index_add_(0, group[rows], stack.power * weight[:, None])
        return {"numerator": numerator.numpy(), "denominator": denominator.numpy()}

    total = ClassSums(torch.zeros((n_groups, rings.count, rings.n_angles)), torch.zeros((n_groups, rings.count)))
    for _, found in map_parts("class averages", work, blocks_of(len(members)), progress, at_once=False):
        total += ClassSums(torch.from_numpy(found["numerator"]), torch.from_numpy(found["denominator"]))
    return total


def halves_of(group: Tensor, half_set: Tensor | None, generator: torch.Generator) -> Tensor:
    """Half (n,) of each particle, 0 or 1: as `half_set` says (1 or 2), else every other member at random."""
    if half_set is not None and bool(((half_set == 1) | (half_set == 2)).all()):
        return half_set.long() - 1
    shuffled = torch.randperm(len(group), generator=generator)
    order = shuffled[torch.argsort(group[shuffled], stable=True)]
    half = torch.empty_like(group)
    half[order] = torch.arange(len(group)) % 2
    return half


def class_averages(
    observed: NoisySet,
    assignment: Assignment,
    n_classes: int,
    *,
    diameter_px: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ClassAverages:
    """Averages of the particles of each class, in the box of `observed`.

    `observed` may hold the particles in another box than they were aligned in, if the assignment's shifts are
    scaled along. `diameter_px` masks the averages (default: 0.9 of the box). Half sets known to the particles
    make the halves whose correlation states the resolution.
    """
    box = observed.particles.box
    rings = FourierRings.up_to(box, (box - 1) // 2, box)
    known = observed.particles.half_set
    generator = torch.Generator().manual_seed(seed)
    half_set = None if known is None else torch.from_numpy(np.asarray(known, dtype=np.int64))
    half = halves_of(assignment.class_index, half_set, generator)
    group = torch.where(assignment.class_index >= 0, assignment.class_index + n_classes * half, -1)
    sums = summed(observed, assignment, group, 2 * n_classes, rings, progress)
    first, second = (
        ClassSums(sums.numerator[part], sums.denominator[part])
        for part in (slice(0, n_classes), slice(n_classes, 2 * n_classes))
    )
    frc = _whole_correlation(first, second)
    both = first + second
    signals = wiener(both, spectral_prior(both, box, floor=0.0), box)
    mask = soft_disk(box, (0.9 * box if diameter_px is None else diameter_px) / 2)
    filled = (both.denominator.sum(dim=1) > 0)[:, None, None]
    images = torch.where(filled, rings.to_images(from_hartley(signals)) * mask, 0.0)
    pixel = observed.particles.pixel_size_angstrom
    curves = np.zeros((n_classes, box // 2 + 1))
    curves[:, 0] = 1
    curves[:, 1 : 1 + rings.count] = frc.double().numpy()
    resolution = np.array([_resolution(curve, pixel, box) for curve in curves])
    alone = ~((first.denominator.sum(dim=1) > 0) & (second.denominator.sum(dim=1) > 0)).numpy()
    resolution[alone] = math.inf
    return ClassAverages(images, curves, resolution)


def _resolution(curve: FloatArray, pixel_size_angstrom: float, box: int) -> float:
    """Where the correlation falls below 0.5 beyond its peak in the lowest eighth of the shells.

    Inside the peak the CTF passes little, so that halves may disagree there without a limit to their detail.
    """
    peak = 1 + int(np.argmax(curve[1 : max(2, box // 8 + 1)]))
    beyond = curve.copy()
    if curve[peak] >= FRC_THRESHOLD:
        beyond[:peak] = curve[peak]
    return resolution_at(beyond, FRC_THRESHOLD, pixel_size_angstrom, box)


def _whole_correlation(first: ClassSums, second: ClassSums) -> Tensor:
    """Correlation of each ring (K, R) between half averages, as 2 c / (1 + c) for the average of both."""
    a = first.numerator / first.denominator.clamp_min(1e-6)[..., None]
    b = second.numerator / second.denominator.clamp_min(1e-6)[..., None]
    norm = (a.square().sum(dim=-1) * b.square().sum(dim=-1)).sqrt()
    correlation = (a * b).sum(dim=-1) / norm.clamp_min(1e-12)
    return torch.where(correlation > 0, 2 * correlation / (1 + correlation), correlation)
