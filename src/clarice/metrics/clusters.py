"""How good classes are: purity, adjusted Rand index, and how widely the views inside a class spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clarice.geometry.so3 import symmetry_rotations

FloatArray = NDArray[np.float64]

# Members tried as the first centre of a class, and rounds of re-centring on their mean.
CENTRES = 100
ROUNDS = 10


def _contingency(labels: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """How many items each (class, true class) pair shares."""
    found, true = np.asarray(labels), np.asarray(truth)
    if found.shape != true.shape or found.ndim != 1 or len(found) == 0:
        raise ValueError(f"labels of shapes {found.shape} and {true.shape} cannot be compared")
    _, rows = np.unique(found, return_inverse=True)
    _, columns = np.unique(true, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    return table


def purity(labels: ArrayLike, truth: ArrayLike) -> float:
    """Share of items whose true class is the commonest one of their class; (n,) labels of any kind each.

    Raises ValueError when the lengths differ or nothing is labelled.
    """
    table = _contingency(labels, truth)
    return float(table.max(axis=1).sum() / table.sum())


def adjusted_rand_index(labels: ArrayLike, truth: ArrayLike) -> float:
    """Agreement of two partitions, 1 for equal and 0 on average for random ones (Hubert & Arabie 1985)."""
    table = _contingency(labels, truth).astype(np.float64)

    def pairs(counts: FloatArray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / max(pairs(table.sum(keepdims=True)), 1.0)
    largest = (rows + columns) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


@dataclass(frozen=True)
class ViewSpread:
    """Views inside classes: angle of each item to its class's mean direction (n,), and by class.

    `classes` (k,) are the labels in ascending order, `sizes` (k,) count their items, `median_deg` (k,) are
    their median angles.
    """

    angle_deg: FloatArray
    classes: NDArray[np.generic]
    sizes: NDArray[np.int64]
    median_deg: FloatArray

    @property
    def overall_deg(self) -> float:
        """Median over all items: a class counts by its size."""
        return float(np.median(self.angle_deg))


def view_spread(
    rotations: FloatArray, labels: ArrayLike, *, mirror_equivalent: bool = False, symmetry: str = "C1"
) -> ViewSpread:
    """Spread of the true views of `rotations` (n, 3, 3) inside each class of `labels` (n,).

    With `mirror_equivalent`, opposite views count as one: their projections are mirror images. Views are
    taken modulo `symmetry`. Raises ValueError when the lengths differ or nothing is labelled.
    """
    directions, found = np.asarray(rotations, dtype=np.float64)[:, 2, :], np.asarray(labels)
    if found.shape != (len(directions),) or len(found) == 0:
        raise ValueError(f"{len(directions)} rotations do not go with labels of shape {found.shape}")
    group = symmetry_rotations(symmetry)
    equivalents = np.concatenate([group, -group]) if mirror_equivalent else group
    classes, member, sizes = np.unique(found, return_inverse=True, return_counts=True)
    angle = np.empty(len(found))
    for index in range(len(classes)):
        angle[member == index] = _angles_to_centre(directions[member == index], equivalents)
    medians = np.array([np.median(angle[member == index]) for index in range(len(classes))])
    return ViewSpread(angle, classes, sizes, medians)


def _angles_to_centre(directions: FloatArray, equivalents: FloatArray) -> FloatArray:
    """Angle in degrees of each direction, in its nearest equivalent, to the mean of all in theirs."""
    copies = np.einsum("gij,nj->ngi", equivalents, directions)  # (n, g, 3)
    tried = directions[:: max(1, len(directions) // CENTRES)]
    # The member with the least sum of angles stands at the densest place: outliers do not pull it.
    sums = [np.arccos(np.clip((copies @ centre).max(axis=1), -1, 1)).sum() for centre in tried]
    centre = tried[int(np.argmin(sums))]
    for _ in range(ROUNDS):
        nearest = copies[np.arange(len(copies)), (copies @ centre).argmax(axis=1)]
        mean = nearest.mean(axis=0)
        length = np.linalg.norm(mean)
        if length < 1e-9:
            break
        centre = mean / length
    return np.asarray(np.rad2deg(np.arccos(np.clip((copies @ centre).max(axis=1), -1, 1))))
