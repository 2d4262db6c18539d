"""Structural noise: what an image shows beside its particle and is no random noise, with a strength for each kind.

Neighbours, carbon, ice and domains that move lie in the specimen, where the CTF acts on them; gradients, streaks and
hot pixels come behind it. None of it counts in the SNR, and none is in the clean image, which shows the whole molecule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.errors import UsageError
from clarice.geometry.so3 import random_rotations
from clarice.physics.atoms import Atoms
from clarice.physics.contaminants import carbon_film, contrast_of, draw_neighbours, ice_crystals, paste
from clarice.physics.detector_faults import hot_pixels, streaks, thickness_gradient
from clarice.physics.domains import outer_domain, with_turned, without

Projector = Callable[[NDArray[np.float64]], Tensor]
# Shapes that a floppy molecule takes beside its own, every other one of them without its domain; the share of its atoms
# in that domain, and how far it turns about where it hangs.
FLOPPY_SHAPES, DOMAIN_SHARE, TURN_DEG = 6, (0.1, 0.25), (20.0, 60.0)


@dataclass(frozen=True)
class StructuralNoise:
    """Strengths, 0 for none.

    `neighbours`: other particles at the rim, on average. `carbon`: the potential of a film with an edge, over the
    particle's own contrast. `ice`: crystals, over their usual contrast of three times the particle's. `floppy`: share
    of particles with a domain turned or missing. `gradient`: of ice thickness, and `streaks` of the detector, in
    standard deviations of the random noise. `hot_pixels`: how many, on average.

    Raises UsageError for a strength that cannot be.
    """

    neighbours: float = 0.0
    carbon: float = 0.0
    ice: float = 0.0
    floppy: float = 0.0
    gradient: float = 0.0
    streaks: float = 0.0
    hot_pixels: float = 0.0

    def __post_init__(self) -> None:
        for kind in fields(self):
            strength = getattr(self, kind.name)
            most = 1.0 if kind.name == "floppy" else math.inf
            if not (0 <= strength <= most and math.isfinite(strength)):
                limit = "must lie between 0 and 1" if kind.name == "floppy" else "must be a number of at least 0"
                raise UsageError(f"structural noise: {kind.name}={strength:g} {limit}")

    @property
    def present(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, kind.name) > 0 for kind in fields(self))


NO_STRUCTURAL_NOISE = StructuralNoise()


def kinds() -> tuple[str, ...]:
    """The names of all kinds."""
    return tuple(kind.name for kind in fields(StructuralNoise))


@dataclass(frozen=True)
class Surroundings:
    """Draws the structural noise of image after image, in order, from one generator.

    `project` gives projections (n, 2L, 2L) of the molecule at rotations, `shapes` the same of its other shapes.
    """

    strengths: StructuralNoise
    box: int
    pixel_size_angstrom: float
    project: Projector
    shapes: tuple[Projector, ...]
    generator: torch.Generator

    def as_shown(self, projections: Tensor, rotations: NDArray[np.float64]) -> Tensor:
        """The projections, some of them of another shape."""
        if self.strengths.floppy == 0 or not self.shapes:
            return projections
        draws = torch.rand((2, len(projections)), generator=self.generator)
        shape = torch.where(draws[0] < self.strengths.floppy, (draws[1] * len(self.shapes)).long(), -1)
        shown = projections.clone()
        for number, project in enumerate(self.shapes):
            rows = torch.nonzero(shape == number).flatten()
            if len(rows):
                shown[rows] = project(rotations[rows.numpy()])
        return shown

    def beside(self, projections: Tensor) -> Tensor | None:
        """The potential (n, 2L, 2L) of what lies beside the particles of `projections`; None for nothing."""
        strengths, width = self.strengths, projections.shape[-1]
        if strengths.neighbours == strengths.carbon == strengths.ice == 0:
            return None
        field = torch.zeros_like(projections)
        if strengths.neighbours > 0:
            rows, offsets = draw_neighbours(len(projections), self.box, strengths.neighbours, self.generator)
            if len(rows):
                paste(field, self.project(random_rotations(len(rows), self.generator)), rows, offsets)
        contrast = contrast_of(projections, self.box)
        if strengths.carbon > 0:
            field += strengths.carbon * contrast * carbon_film(len(projections), width, self.generator)
        if strengths.ice > 0:
            crystals = ice_crystals(len(projections), width, self.pixel_size_angstrom, self.generator)
            field += strengths.ice * contrast * crystals
        return field


def on_detector(strengths: StructuralNoise, count: int, box: int, generator: torch.Generator) -> Tensor:
    """What comes on top of `count` noisy images, (count, L, L), in the noise's standard deviation."""
    field = torch.zeros((count, box, box))
    if strengths.gradient > 0:
        field += strengths.gradient * thickness_gradient(count, box, generator)
    if strengths.streaks > 0:
        field += strengths.streaks * streaks(count, box, generator)
    if strengths.hot_pixels > 0:
        field += hot_pixels(count, box, strengths.hot_pixels, generator)
    return field


def other_shapes(atoms: Atoms, rng: np.random.Generator) -> list[Atoms]:
    """The molecule with an outer domain turned about where it hangs, or missing, by turns."""
    shapes = []
    for number in range(FLOPPY_SHAPES):
        domain = outer_domain(atoms, rng.uniform(*DOMAIN_SHARE), rng)
        shapes.append(without(atoms, domain) if number % 2 else with_turned(atoms, domain, rng.uniform(*TURN_DEG), rng))
    return shapes
