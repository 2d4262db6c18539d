"""How well a method sorted and aligned a set: purity, adjusted Rand index and in-plane angles of its classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clarice.benchmark.denoise_sets import ImageSet
from clarice.metrics.clusters import adjusted_rand_index, purity

FloatArray = NDArray[np.float64]


def wrapped(angle_rad: FloatArray) -> FloatArray:
    """Angles in [−π, π)."""
    return np.asarray((angle_rad + np.pi) % (2 * np.pi) - np.pi)


def judge_sorting(label: NDArray[np.int64], angle_rad: FloatArray | None, truth: ImageSet) -> dict[str, float]:
    """Purity and ARI against the true views, and the median error in degrees of the angles.

    Nothing is said of a set whose views are all different: it has no true classes.
    """
    view = truth.shown.view
    if len(np.unique(view)) == len(view):
        return {}
    figures = {"purity": purity(label, view), "ari": adjusted_rand_index(label, view)}
    errors = np.empty(0) if angle_rad is None else _angle_errors(label, angle_rad, truth)
    if len(errors):
        figures["angle_error_deg"] = float(np.rad2deg(np.median(errors)))
    return figures


def _angle_errors(label: NDArray[np.int64], angle_rad: FloatArray, truth: ImageSet) -> FloatArray:
    """Errors of the angles of each class's members of its commonest view, up to the class's own angle."""
    errors: list[FloatArray] = []
    for name in np.unique(label):
        members = np.flatnonzero(label == name)
        views, counts = np.unique(truth.shown.view[members], return_counts=True)
        rows = members[truth.shown.view[members] == views[np.argmax(counts)]]
        if len(rows) < 2:
            continue
        turned = angle_rad[rows] - truth.shown.angle_rad[rows]
        errors.append(np.abs(wrapped(turned - _centre(turned))))
    return np.concatenate(errors) if errors else np.empty(0)


def _centre(angle_rad: FloatArray) -> float:
    """The mean of the angles within 90° of the one that all lie nearest to."""
    distances = np.abs(wrapped(angle_rad[:, None] - angle_rad[None]))
    nearest = angle_rad[np.argmin(distances.sum(axis=1))]
    around = wrapped(angle_rad - nearest)
    return float(nearest + around[np.abs(around) < np.pi / 2].mean())
