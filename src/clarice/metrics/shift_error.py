"""How far found shifts are off, once the place of the structure in its box, which no method can know, is taken out."""

from __future__ import annotations

import numpy as np

from clarice.core.particles import FloatArray, Poses

_ROUNDS = 20
# Keeps the weights finite; far below any error met in practice.
_SMALLEST = 1e-3


def shift_errors(found: Poses, true: Poses) -> FloatArray:
    """Lengths (n,) of the differences between the shifts of the same particles, in their unit.

    A structure moved by s in its box moves image i by `(R_i s)_xy`: the one move s is taken out that makes the sum of
    lengths least, by iteratively reweighted least squares, so that it stands while some particles are far off. Raises
    ValueError where the sets differ in length.
    """
    if len(found) != len(true):
        raise ValueError(f"{len(found)} shifts and {len(true)} cannot be compared")
    difference = found.shifts_px - true.shifts_px
    moves = found.rotations[:, :2, :]  # (n, 2, 3)
    lengths = np.ones(len(difference))
    left = difference
    for _ in range(_ROUNDS):
        weight = 1 / np.sqrt(np.maximum(lengths, _SMALLEST))
        rows = (moves * weight[:, None, None]).reshape(-1, 3)
        move = np.linalg.lstsq(rows, (difference * weight[:, None]).ravel(), rcond=None)[0]
        left = difference - moves @ move
        lengths = np.linalg.norm(left, axis=1)
    return np.asarray(lengths)
