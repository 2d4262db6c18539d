"""2D classification of prepared particles, from images to class averages with their members."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.classify.align import Assignment, align_to_classes
from clarice.classify.average import ClassAverages, class_averages
from clarice.core.particles import FloatArray
from clarice.core.progress import Progress, silent
from clarice.geometry.fourier import radius_grid
from clarice.physics.noisy_set import NoisySet


@dataclass(frozen=True)
class Classes2D:
    """K classes of n particles, the most populated first; arrays over classes have K rows, over particles n.

    `images` (K, L, L): CTF-corrected averages, protein bright, in units of the noise's standard deviation.
    `resolution_angstrom` and `frc` (K, L // 2 + 1) compare two halves of the members. `contrast` is the mean
    density in the particle's disk over that around it, in standard deviations of the latter; `class_fit` the
    median of the members' `fit`, the share of its expected signal that the class explains in a particle.
    Of each particle: `class_index` from 0, `angle_rad` that turns the class onto it (+x towards +y),
    `shift_px` (n, 2) that centres it, `probability` of the class. NaN stands for what an empty class lacks.
    """

    images: NDArray[np.float32]
    pixel_size_angstrom: float
    diameter_px: float
    population: NDArray[np.int64]
    resolution_angstrom: FloatArray
    frc: FloatArray
    contrast: FloatArray
    class_fit: FloatArray
    class_index: NDArray[np.int64]
    angle_rad: FloatArray
    shift_px: FloatArray
    probability: FloatArray
    fit: FloatArray
    log_likelihood: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_number(self) -> NDArray[np.int64]:
        """Class of each particle counted from 1, as files and users have it."""
        return self.class_index + 1

    @property
    def psi_deg(self) -> FloatArray:
        """RELION's psi of each particle, in (−180, 180]: it falls as the content turns from +x towards +y."""
        return np.asarray(180 - (np.rad2deg(self.angle_rad) + 180) % 360)

    @property
    def shift_angstrom(self) -> FloatArray:
        """RELION's origins (n, 2): the translation that centres each particle, (x, y)."""
        return self.shift_px * self.pixel_size_angstrom

    def members(self, number: int) -> NDArray[np.int64]:
        """Rows of the particles in class `number` (from 1), the most probable first."""
        rows = np.flatnonzero(self.class_number == number)
        return rows[np.argsort(-self.probability[rows], kind="stable")]


def classify(
    observed: NoisySet,
    n_classes: int,
    *,
    iterations: int = 20,
    diameter_px: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Classes2D:
    """Sorts prepared particles (white noise of variance 1, protein bright) into 2D classes and averages them.

    `diameter_px` is that of the particle (default: 0.8 of the box): classes are masked to it. Images are not
    mirrored, so no class mixes hands. The same seed gives the same classes. Raises InputError for fewer
    particles than classes, UsageError for unfit settings.
    """
    diameter = 0.8 * observed.particles.box if diameter_px is None else diameter_px
    found = align_to_classes(
        observed, n_classes, iterations=iterations, diameter_px=diameter, seed=seed, progress=progress
    )
    assignment = _by_population(found.assignment, n_classes)
    averages = class_averages(observed, assignment, n_classes, seed=seed, progress=progress)
    index = assignment.class_index.numpy()
    fit = assignment.fit.double().numpy()
    return Classes2D(
        images=averages.images.numpy().astype(np.float32),
        pixel_size_angstrom=observed.particles.pixel_size_angstrom,
        diameter_px=diameter,
        population=np.bincount(index, minlength=n_classes),
        resolution_angstrom=averages.resolution_angstrom,
        frc=averages.frc,
        contrast=disk_contrast(averages, diameter),
        class_fit=_median_by_class(fit, index, n_classes),
        class_index=index,
        angle_rad=assignment.angle_rad.double().numpy(),
        shift_px=assignment.shift_px.double().numpy(),
        probability=assignment.probability.double().numpy(),
        fit=fit,
        log_likelihood=found.log_likelihood,
    )


def _by_population(assignment: Assignment, n_classes: int) -> Assignment:
    population = torch.bincount(assignment.class_index, minlength=n_classes)
    order = torch.argsort(population, descending=True, stable=True)
    return replace(assignment, class_index=torch.argsort(order)[assignment.class_index])


def _median_by_class(values: FloatArray, index: NDArray[np.int64], n_classes: int) -> FloatArray:
    parts = [values[index == number] for number in range(n_classes)]
    return np.array([np.median(part) if len(part) else np.nan for part in parts])


def disk_contrast(averages: ClassAverages, diameter_px: float) -> FloatArray:
    """How far the particle's disk stands out of its surroundings in each average, in σ of the latter, (K,).

    The disk has 0.6 of the diameter; the surroundings are a ring as far out as the box allows, lest the ends of a
    particle longer than its stated diameter count as surroundings. A particle gives 10 and more, noise about 1, the
    edge of a carbon film about 2. NaN when empty.
    """
    box = averages.images.shape[-1]
    radius = radius_grid(box)
    outer = 0.44 * box
    inside = averages.images[:, radius < 0.3 * diameter_px]
    around = averages.images[:, (radius > 0.81 * outer) & (radius <= outer)]
    deviation = around.std(dim=1)
    contrast = (inside.mean(dim=1) - around.mean(dim=1)) / deviation
    return np.where(deviation > 0, contrast.double(), np.nan)
