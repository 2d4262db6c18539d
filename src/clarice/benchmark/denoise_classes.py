"""Class averaging and the oracle as denoisers: each particle is represented by an average, turned back on to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from clarice.benchmark.denoise_cells import VIEWS
from clarice.benchmark.denoise_scores import Answer
from clarice.benchmark.denoise_sets import Images, ImageSet
from clarice.classify.align import Assignment
from clarice.classify.average import summed
from clarice.classify.classes import classify
from clarice.core.errors import UsageError
from clarice.core.particles import ArraySource, FloatArray, ParticleSet
from clarice.denoise.registry import denoise_all, get_denoiser
from clarice.geometry.angular import from_spectrum, to_spectrum
from clarice.geometry.fourier import radius_grid
from clarice.geometry.polar import FourierRings, from_hartley, hartley
from clarice.physics.noisy_set import NoisySet

# Images to a class where every image has its own view.
PER_CLASS = 16
# Fewer images than this for each view make fewer classes.
LEAST_PER_CLASS = 4
_CHUNK = 256


def class_count(setting: str, size: int) -> int:
    """Classes a set of a setting is sorted into: as many as its views, which the method is told, if they can fill."""
    if size < LEAST_PER_CLASS:
        raise UsageError(f"class averaging needs {LEAST_PER_CLASS} images or more")
    views = VIEWS[setting]
    return min(views, size // LEAST_PER_CLASS) if views else max(1, size // PER_CLASS)


def central_part(mean: Tensor, first: Tensor, box: int) -> Tensor:
    """What summing over rings from radius 1 on leaves out of images (n, L, L) around frequency 0.

    `mean` (n,) is F(0) / L², `first` (n,) the mean of the first ring over L². Euler and Maclaurin's sum formula to its
    third term, for k F(k) J0(2π k r / L) with F(k) = F(0) + (F(1) − F(0)) k².
    """
    square = (math.pi * radius_grid(box) / box) ** 2
    of_mean = 1 / 12 + square / 120 + square.square() / 1008
    return 2 * math.pi * (mean[:, None, None] * of_mean - (first - mean)[:, None, None] / 120)


def first_ring(rings: Tensor, box: int) -> Tensor:
    """Mean over the first of the Fourier rings (n, R, T // 2), over L²: (n,)."""
    return rings[:, 0].real.mean(dim=-1) / box**2


def turned_back(averages: Tensor, index: Tensor, angle_rad: Tensor, shift_px: Tensor) -> Tensor:
    """Averages (K, L, L) as each particle shows them: turned by `angle_rad` (n,) and moved by −`shift_px` (n, 2).

    Fourier components beyond the inscribed circle are lost.
    """
    box = averages.shape[-1]
    rings = FourierRings.up_to(box, (box - 1) // 2, box)
    sampled = rings.sample(averages)
    spectrum = to_spectrum(hartley(sampled))
    centre = central_part(averages.mean(dim=(-2, -1)), first_ring(sampled, box), box)
    order = torch.arange(len(spectrum), dtype=torch.float32)[:, None]
    parts = []
    for start in range(0, len(index), _CHUNK):
        rows = slice(start, start + _CHUNK)
        real, imaginary = spectrum[:, index[rows]].chunk(2, dim=-1)
        angle = order * angle_rad[rows].float()
        cosine, sine = angle.cos()[..., None], angle.sin()[..., None]
        # signal(θ − φ) has the spectrum exp(−i m φ) times the signal's
        turned = torch.cat([real * cosine + imaginary * sine, imaginary * cosine - real * sine], dim=-1)
        signals = from_hartley(from_spectrum(turned, rings.n_angles))
        images = rings.to_images(signals * rings.shift_phases(-shift_px[rows].float()))
        parts.append(images + centre[index[rows]])
    return torch.cat(parts)


def on_zero_background(averages: Tensor) -> Tensor:
    """Averages (K, L, L) with the central part that rings do not hold: nothing stands around a particle."""
    box = averages.shape[-1]
    radius, one = radius_grid(box), torch.ones(1)
    part = central_part(one, one, box)[0]
    ring = (radius > 0.38 * box) & (radius < 0.44 * box)
    missing = averages[:, ring].mean(dim=1) / part[ring].mean()
    return torch.where(radius < 0.45 * box, averages - missing[:, None, None] * part, averages)


def class_averaging(images: ImageSet, setting: str) -> Answer:
    """`clarice classify`'s averages, each turned back on to its members."""
    started = time.perf_counter()
    found = classify(images.noisy_set(), class_count(setting, len(images)), seed=images.number)
    index = torch.from_numpy(found.class_index)
    angle, shift = torch.from_numpy(found.angle_rad), torch.from_numpy(found.shift_px)
    averages = on_zero_background(torch.from_numpy(found.images))
    shown = turned_back(averages, index, angle, shift).numpy()
    return Answer(shown, time.perf_counter() - started, found.class_index, found.angle_rad)


def oracle(images: ImageSet, then: Callable[[NoisySet], Images]) -> Answer:
    """Images of one view averaged at their true angles and shifts, denoised by `then` as they are, and turned back."""
    started = time.perf_counter()
    shown = images.shown
    views, index = np.unique(shown.view, return_inverse=True)
    angle, shift = torch.from_numpy(shown.angle_rad), torch.from_numpy(shown.poses.shifts_px)
    assignment = Assignment(
        torch.from_numpy(index), angle.float(), shift.float(), torch.ones(len(index)), torch.ones(len(index))
    )
    averages, scale = _whitened_averages(images.noisy_set(), assignment, len(views))
    clean = torch.from_numpy(then(averages)) / torch.from_numpy(scale).float()[:, None, None]
    back = turned_back(clean, assignment.class_index, angle, shift).numpy()
    return Answer(back, time.perf_counter() - started)


def oracle_then(name: str) -> Callable[[ImageSet, str], Answer]:
    """The oracle with the registered method `name` after the averages.

    It raises UsageError in settings in which no two images show the same view.
    """

    def then(noisy: NoisySet) -> Images:
        return denoise_all(get_denoiser(name)(noisy), len(noisy), noisy.box)

    def answer(images: ImageSet, setting: str) -> Answer:
        if not VIEWS[setting]:
            raise UsageError("every image has a view of its own: there is nothing to average")
        return oracle(images, then)

    return answer


def _whitened_averages(observed: NoisySet, assignment: Assignment, n_views: int) -> tuple[NoisySet, FloatArray]:
    """Σ H y / √(Σ H²) of each view, white with variance 1, and the factor √m (K,) their signal is stronger by.

    For m images of a view it is √(Σ H² / m) √m x + e: a whitened particle that shows √m x.
    """
    box = observed.box
    rings = FourierRings.up_to(box, (box - 1) // 2, box)
    index = assignment.class_index
    sums = summed(observed, assignment, index, n_views, rings)
    rows = np.arange(len(observed))
    transfer = observed.transfer_of(rows)[:, 0, 0]
    totals = observed.images(rows).sum(dim=(-2, -1))
    add = partial(torch.zeros(n_views).index_add, 0, index)
    central, numerator = add(transfer.square()), add(transfer * totals)
    weight = torch.cat([central[:, None], sums.denominator, sums.denominator[:, -1:]], dim=1).clamp_min(1e-6).sqrt()
    signals = sums.numerator / weight[:, 1 : 1 + rings.count, None]
    mean = numerator / weight[:, 0] / box**2
    whitened = from_hartley(signals)
    images = rings.to_images(whitened) + central_part(mean, first_ring(whitened, box), box)
    members = torch.bincount(index, minlength=n_views).double().sqrt().numpy()
    whitening = weight.double().numpy()[:, : box // 2 + 1] / members[:, None]
    particles = ParticleSet(ArraySource(images.numpy()), observed.particles.pixel_size_angstrom)
    return NoisySet(particles, whitening, np.arange(n_views), np.zeros(box // 2 + 1)), members
