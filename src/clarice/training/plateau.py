"""Whether a network is trained: what the last quarter of its images still gained."""

from __future__ import annotations

from collections.abc import Sequence

# The published protocol calls a network trained when its validation error gains less in the last quarter.
TRAINED_BELOW = 0.01
LAST_SHARE = 0.25


def last_quarter_gain(validations: Sequence[tuple[int, float]]) -> float | None:
    """The share of the validation error that the last quarter of the images took away.

    `validations` holds (images, error) in ascending order; the error at three quarters of the images is interpolated.
    None when nothing was validated in the first three quarters, the untrained network apart.
    """
    if not validations:
        return None
    end, last = validations[-1]
    turn = (1 - LAST_SHARE) * end
    before = [entry for entry in validations if 0 < entry[0] <= turn]
    if not before:
        return None
    (x0, y0), (x1, y1) = before[-1], validations[len([entry for entry in validations if entry[0] <= turn])]
    at_turn = y0 + (y1 - y0) * (turn - x0) / (x1 - x0)
    return (at_turn - last) / at_turn
