"""Which classes, and which of their particles, go on; with reasons, and a warning where a view would be lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarice.core.errors import InputError, UsageError
from clarice.core.particles import FloatArray, RowIndex

# A class is junk only against what most particles of the same set give, and only when it is far from that.
NOISE_FIT, NOISE_CONTRAST = 0.25, 0.5
EDGE_CONTRAST = 0.25
# Where even the typical class hardly stands out of its surroundings, classes cannot be judged by it.
TYPICAL_CONTRAST = 3.0
# Junk whose halves agree to within this factor of what those of kept classes typically do may be none; halves of fewer
# particles agree by chance.
SHARP, FEWEST_JUDGED = 1.25, 10

KEPT = "kept"
EMPTY = "no members"
NOISE = "noise: it explains almost nothing of its members"
EDGE = "no particle in the disk: an edge, a gradient or a neighbour"
NOT_CHOSEN = "not chosen"
IMPROBABLE = "improbable in its class"


class SelectionRule(StrEnum):
    """Which particles go on: all but those of evident junk, or all."""

    AUTO = "auto"
    ALL = "all"


@dataclass(frozen=True)
class ClassQuality:
    """What selection looks at, one value a class, (K,); see `Classes2D` for the measures."""

    population: NDArray[np.int64]
    resolution_angstrom: FloatArray
    contrast: FloatArray
    class_fit: FloatArray

    def __len__(self) -> int:
        return len(self.population)


@dataclass(frozen=True)
class ClassFate:
    """One row of the survival table: a class counted from 1, its members, those kept, and why."""

    number: int
    members: int
    kept: int
    reason: str


@dataclass(frozen=True)
class Selection:
    """Rows of the kept particles in the input's order, the fate of every class, and what the user should know."""

    rows: RowIndex
    total: int
    fates: tuple[ClassFate, ...]
    warnings: tuple[str, ...]

    @property
    def selected_classes(self) -> tuple[int, ...]:
        """Numbers (from 1) of the classes that keep at least one particle."""
        return tuple(fate.number for fate in self.fates if fate.kept)

    def as_record(self) -> dict[str, Any]:
        """The content of selection.json."""
        reasons: dict[str, int] = {}
        for fate in self.fates:
            lost = fate.members - fate.kept
            if lost:
                reason = fate.reason if fate.reason != KEPT else IMPROBABLE
                reasons[reason] = reasons.get(reason, 0) + lost
        return {
            "kept": len(self.rows),
            "total": self.total,
            "reasons": reasons,
            "selected_classes": list(self.selected_classes),
            "classes": [vars(fate) for fate in self.fates],
            "warnings": list(self.warnings),
        }


def can_be_judged(quality: ClassQuality) -> bool:
    """Whether the classes of most particles stand out of their surroundings: the others are held against those."""
    return _typical(quality.contrast, quality) >= TYPICAL_CONTRAST


def judge_classes(quality: ClassQuality) -> tuple[str, ...]:
    """Why each class is kept or not, (K,): junk goes only when it is evident, so rare and blurred views stay."""
    filled = quality.population > 0
    contrast, fit = _typical(quality.contrast, quality), _typical(quality.class_fit, quality)
    judged = can_be_judged(quality)
    verdicts = []
    for index in range(len(quality)):
        own_contrast, own_fit = quality.contrast[index], quality.class_fit[index]
        reason = KEPT
        if not filled[index]:
            reason = EMPTY
        elif judged:
            if own_contrast < NOISE_CONTRAST * contrast and own_fit < NOISE_FIT * fit:
                reason = NOISE
            elif own_contrast < EDGE_CONTRAST * contrast:
                reason = EDGE
        verdicts.append(reason)
    return tuple(verdicts)


def _typical(values: FloatArray, quality: ClassQuality) -> float:
    """Median over particles of their class's value."""
    usable = np.isfinite(values) & (quality.population > 0)
    if not usable.any():
        return 0.0
    order = np.argsort(values[usable])
    weight = np.cumsum(quality.population[usable][order])
    return float(values[usable][order][np.searchsorted(weight, weight[-1] / 2)])


def select_automatically(
    quality: ClassQuality,
    class_number: NDArray[np.int64],
    probability: FloatArray | None = None,
    minimum_probability: float = 0.0,
) -> Selection:
    """Leaves out evident junk classes, and particles whose class is less probable than `minimum_probability`.

    `class_number` (n,) counts from 1. Raises InputError when nothing is left.
    """
    verdicts = judge_classes(quality)
    chosen = _selection(verdicts, class_number, probability, minimum_probability)
    return replace(chosen, warnings=(*chosen.warnings, *_sharp_junk(quality, verdicts)))


def select_all(class_number: NDArray[np.int64], n_classes: int) -> Selection:
    """Keeps every particle, whatever its class (one of `n_classes`) looks like."""
    return select_classes(range(1, n_classes + 1), n_classes, class_number)


def select_classes(
    wanted: Sequence[int],
    n_classes: int,
    class_number: NDArray[np.int64],
    probability: FloatArray | None = None,
    minimum_probability: float = 0.0,
) -> Selection:
    """Keeps the particles of the classes `wanted` (from 1). Raises UsageError for a class that does not exist."""
    unknown = [number for number in wanted if not 1 <= number <= n_classes]
    if unknown:
        raise UsageError(f"--classes: there is no class {unknown[0]}, only 1 to {n_classes}")
    chosen = set(wanted)
    verdicts = tuple(KEPT if number in chosen else NOT_CHOSEN for number in range(1, n_classes + 1))
    return _selection(verdicts, class_number, probability, minimum_probability)


def _selection(
    verdicts: tuple[str, ...],
    class_number: NDArray[np.int64],
    probability: FloatArray | None,
    minimum_probability: float,
) -> Selection:
    if not 0 <= minimum_probability <= 1:
        raise UsageError(f"--min-probability {minimum_probability:g} must lie between 0 and 1")
    if minimum_probability > 0 and probability is None:
        raise UsageError("--min-probability needs the column _rlnMaxValueProbDistribution, which is missing")
    good = np.array([verdict == KEPT for verdict in verdicts])
    keep = good[class_number - 1]
    if probability is not None:
        keep &= probability >= minimum_probability
    members = np.bincount(class_number - 1, minlength=len(verdicts))
    kept = np.bincount(class_number[keep] - 1, minlength=len(verdicts))
    fates = tuple(
        ClassFate(index + 1, int(members[index]), int(kept[index]), verdict if members[index] else EMPTY)
        for index, verdict in enumerate(verdicts)
    )
    if not keep.any():
        raise InputError("the selection is empty: choose other classes or a lower --min-probability")
    return Selection(np.flatnonzero(keep), len(class_number), fates, _alarms(fates))


def _alarms(fates: tuple[ClassFate, ...]) -> tuple[str, ...]:
    """A sentence for each class that loses all its members without being chosen against or evident junk."""
    return tuple(
        f"class {fate.number} loses all of its {fate.members} particles to --min-probability: "
        "a rare view or state may vanish"
        for fate in fates
        if fate.reason == KEPT and fate.members and not fate.kept
    )


def _sharp_junk(quality: ClassQuality, verdicts: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each class left out as junk whose halves agree like those of classes that are kept.

    A minor state, or a smaller particle among larger ones, stands out less than the rest and yet shows something.
    """
    kept = np.array([verdict == KEPT for verdict in verdicts])
    typical = _typical(np.where(kept, quality.resolution_angstrom, np.nan), quality)
    return tuple(
        f"class {index + 1} is left out as junk ({verdict.partition(':')[0]}), and yet the halves of its "
        f"{quality.population[index]} particles agree to {quality.resolution_angstrom[index]:.0f} Å, where those of "
        f"kept classes reach {typical:.0f} Å: look at its average, it may be a rare view or a minor state"
        for index, verdict in enumerate(verdicts)
        if verdict in (NOISE, EDGE)
        and quality.population[index] >= FEWEST_JUDGED
        and quality.resolution_angstrom[index] <= SHARP * typical
    )
