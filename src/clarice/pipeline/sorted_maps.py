"""Particles of several structures sorted by the map they show, each laid on its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clarice.abinitio import projection_matching
from clarice.abinitio.evidence import RandomPhases, laid_sample, random_phases
from clarice.abinitio.pose_assignment import lay_on
from clarice.abinitio.refinement import Settings
from clarice.core.counting import counted
from clarice.core.errors import UsageError
from clarice.core.particles import FloatArray, Poses
from clarice.core.progress import Progress, silent
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.first_map import RANDOM_PHASES_AS_LIKELY
from clarice.pipeline.first_map_settings import FEWEST_HELD_OUT, FirstMapSettings, Method


@dataclass(frozen=True)
class SortedMaps:
    """Maps (L, L, L), that of the most particles first, and what belongs to which.

    `class_number` (n,) counts maps from 1; junk, if there is such a class, comes after the last. Poses and their
    confidence are on each particle's own map; junk has none: identity, confidence 0.
    """

    volumes: tuple[Tensor, ...]
    class_number: NDArray[np.int64]
    poses: Poses
    confidence: FloatArray
    record: dict[str, Any]
    warning: str | None

    def counts(self) -> list[int]:
        """Particles of each map, and of junk last if there is such a class."""
        return [int(count) for count in self.record["particles"]]


def insist_on_classes(classes: int, particles: int) -> None:
    """Raises UsageError for more classes than particles."""
    if classes > particles:
        raise UsageError(f"{counted(particles, 'particle')} cannot show {classes} structures: pass fewer --classes")


def sort_by_map(particles: NoisySet, settings: FirstMapSettings, progress: Progress = silent) -> SortedMaps:
    """As many maps as `settings.classes`, found together by projection matching.

    Raises UsageError for more classes than particles, InputError for too few particles.
    """
    insist_on_classes(settings.classes, len(particles))
    found = projection_matching.initial_map(particles, settings.matching(), progress)
    label = found.memberships.argmax(dim=1).numpy()
    sizes = np.bincount(label, minlength=found.memberships.shape[1])
    order = np.argsort(-sizes[: settings.classes], kind="stable")
    number = np.empty(len(sizes), dtype=np.int64)
    number[order] = np.arange(1, settings.classes + 1)
    number[settings.classes :] = settings.classes + 1
    rotations = np.broadcast_to(np.eye(3), (len(label), 3, 3)).copy()
    shifts, confidence = np.zeros((len(label), 2)), np.zeros(len(label))
    on_map = settings.laying(particles.box, found.radius_px)
    evidence: list[RandomPhases | None] = []
    for done, chosen in enumerate(order):
        rows = np.flatnonzero(label == chosen)
        progress("laying particles", done, settings.classes)
        if len(rows):
            laid = lay_on(particles.subset(rows), found.volumes[chosen], on_map)
            rotations[rows], shifts[rows] = laid.poses.rotations, laid.poses.shifts_px
            confidence[rows] = laid.confidence
        evidence.append(_evidence(particles.subset(rows), found.volumes[chosen], on_map))
    counts = [int(sizes[chosen]) for chosen in order] + [int(size) for size in sizes[settings.classes :]]
    return SortedMaps(
        tuple(found.volumes[chosen] for chosen in order),
        number[label],
        Poses(rotations, shifts),
        confidence,
        {
            "method": Method.PROJECTION_MATCHING.value,
            "radius_px": found.radius_px,
            **found.record(),
            "particles": counts,
            "has_junk": len(sizes) > settings.classes,
            "random_phases": [None if phases is None else asdict(phases) for phases in evidence],
        },
        _doubts(found, counts[: settings.classes], evidence),
    )


def _evidence(shown: NoisySet, volume: Tensor, laying: Settings) -> RandomPhases | None:
    """What becomes of the likelihood of a map's own particles with random phases; None where they are too few."""
    if len(shown) < FEWEST_HELD_OUT:
        return None
    return random_phases(shown, volume, laying, laid_sample(shown, volume, laying))


def _doubts(
    found: projection_matching.InitialMap, counts: list[int], evidence: list[RandomPhases | None]
) -> str | None:
    """Why the maps are not to be trusted, and which of them nothing shows."""
    doubts = [] if found.doubt is None else [found.doubt]
    for number, phases in enumerate(evidence, start=1):
        if phases is not None and not phases.stands_out:
            doubts.append(f"map {number}: {RANDOM_PHASES_AS_LIKELY}")
    empty = sum(count == 0 for count in counts)
    if empty:
        doubts.append(f"{empty} of {len(counts)} maps are shown by no particle: pass fewer --classes")
    return "; ".join(doubts) or None
