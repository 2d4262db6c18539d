"""How right found orientations are, once the frame no method can know is taken out, modulo symmetry.

Perfect orientations obey `J R_found = R_true S G`: G (the gauge) is one rotation for all, S any rotation of
the point group, and J the identity, or diag(−1, −1, 1) when the found structure is the mirror image of the
true one (see `metrics.registration`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clarice.geometry.so3 import angle_between_deg, symmetry_rotations
from clarice.metrics.registration import HALF_TURN

FloatArray = NDArray[np.float64]

# Frames tried as starts, and particles that judge them: spread evenly over the set.
CANDIDATES = 300
JUDGES = 2000
REFINEMENTS = 50
# Keeps the weights of the L1 mean finite; far below any orientation error met in practice.
SMALLEST_DEG = 0.01


@dataclass(frozen=True)
class OrientationErrors:
    """Errors in degrees, (n,) each, of rotations found against true ones.

    `angle_deg` is the whole error, `view_deg` that of the beam's direction in the molecule, `in_plane_deg`
    what is left within the image. `aligned` (n, 3, 3) are the found rotations in the true frame,
    `J R_found gaugeᵀ`. `other_hand_median_deg` is None unless both hands were tried.
    """

    angle_deg: FloatArray
    view_deg: FloatArray
    in_plane_deg: FloatArray
    aligned: FloatArray
    gauge: FloatArray
    mirrored: bool
    other_hand_median_deg: float | None


def orientation_errors(
    found: FloatArray, true: FloatArray, *, symmetry: str = "C1", both_hands: bool = True
) -> OrientationErrors:
    """Errors of `found` against `true` rotations, (n, 3, 3) each, after the gauge that makes their sum least.

    The sum of angles, not of squares, is made least, so that the frame stands while four in ten are outliers.
    Raises ValueError when the sets differ in length or are empty.
    """
    found, true = np.asarray(found, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if found.shape != true.shape or found.ndim != 3 or len(found) == 0:
        raise ValueError(f"rotations of shapes {found.shape} and {true.shape} cannot be compared")
    group = symmetry_rotations(symmetry)
    results = [
        _errors_in_hand(found, true, group, mirrored) for mirrored in ((False, True) if both_hands else (False,))
    ]
    results.sort(key=lambda each: float(each.angle_deg.mean()))
    best = results[0]
    other = float(np.median(results[1].angle_deg)) if both_hands else None
    return OrientationErrors(
        best.angle_deg, best.view_deg, best.in_plane_deg, best.aligned, best.gauge, best.mirrored, other
    )


def _errors_in_hand(found: FloatArray, true: FloatArray, group: FloatArray, mirrored: bool) -> OrientationErrors:
    handed = HALF_TURN @ found if mirrored else found
    gauge = find_gauge(handed, true, group)
    aligned = handed @ gauge.T
    matched = true @ group[_nearest(np.swapaxes(true, -1, -2) @ aligned, group)]
    view, in_plane = view_and_in_plane_deg(aligned, matched)
    angle = angle_between_deg(aligned, matched)
    return OrientationErrors(angle, view, in_plane, aligned, gauge, mirrored, None)


def _nearest(relative: FloatArray, group: FloatArray) -> NDArray[np.int64]:
    """Index into `group` (g, 3, 3) of the member nearest to each of `relative` (n, 3, 3)."""
    return np.asarray(np.argmax(_traces(relative, group), axis=1))


def _traces(relative: FloatArray, group: FloatArray) -> FloatArray:
    """Trace of `memberᵀ @ relative` for each pair: 1 + 2 cos of the angle between them, (n, g)."""
    return np.asarray(relative.reshape(-1, 9) @ group.reshape(-1, 9).T)


def find_gauge(found: FloatArray, true: FloatArray, group: FloatArray) -> FloatArray:
    """The rotation G (3, 3) for which `found` is nearest to `true @ group @ G`: least sum of angles."""
    relative = np.swapaxes(true, -1, -2) @ found  # S G for each particle, S unknown
    judges = relative[_evenly(len(relative), JUDGES)]
    starts = relative[_evenly(len(relative), CANDIDATES)]
    sums = [_distances_deg(judges, start, group)[0].mean() for start in starts]
    leaders = [starts[index] for index in np.argsort(sums, kind="stable")[:5]]
    refined = [_l1_mean(relative, start, group) for start in leaders]
    return min(refined, key=lambda each: float(_distances_deg(relative, each, group)[0].mean()))


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _distances_deg(relative: FloatArray, gauge: FloatArray, group: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Angle from each of `relative` to the nearest of `group @ gauge`, and which member that is."""
    traces = _traces(relative, group @ gauge)
    member = traces.argmax(axis=1)
    cosine = (traces[np.arange(len(relative)), member] - 1) / 2
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1))), member


def _l1_mean(relative: FloatArray, start: FloatArray, group: FloatArray) -> FloatArray:
    """Weiszfeld's iteration: means weighted by one over the distance, projected on SO(3)."""
    gauge = start
    for _ in range(REFINEMENTS):
        distance, member = _distances_deg(relative, gauge, group)
        weights = 1 / np.maximum(distance, SMALLEST_DEG)
        mean = np.einsum("n,nji,njk->ik", weights, group[member], relative)
        u, _, vt = np.linalg.svd(mean)
        new = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        moved = float(angle_between_deg(new, gauge))
        gauge = new
        if moved < SMALLEST_DEG / 10:
            break
    return gauge


def view_and_in_plane_deg(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Angle between the beams of rotations a and b (n, 3, 3), and the turn about it that is left, ≥ 0."""
    between = a @ np.swapaxes(b, -1, -2)  # Rz(α) Ry(β) Rz(γ): β tilts the beam, α + γ turns about it
    view = np.rad2deg(np.arctan2(np.hypot(between[..., 2, 0], between[..., 2, 1]), between[..., 2, 2]))
    turn = np.arctan2(between[..., 1, 0] - between[..., 0, 1], between[..., 0, 0] + between[..., 1, 1])
    return np.asarray(view), np.abs(np.rad2deg(turn))


def common_line_angles_deg(a: FloatArray, b: FloatArray) -> FloatArray:
    """Where the common line of views a and b (..., 3, 3) runs in each image, degrees from +x to +y: (..., 2).

    Both angles may be turned by 180° together. Nearly parallel views leave the line undefined.
    """
    line = np.cross(a[..., 2, :], b[..., 2, :])
    in_a, in_b = (np.einsum("...ij,...j->...i", rotation, line) for rotation in (a, b))
    angles = np.stack([np.arctan2(each[..., 1], each[..., 0]) for each in (in_a, in_b)], axis=-1)
    return np.asarray(np.rad2deg(angles))


def common_line_share(
    found: FloatArray,
    true: FloatArray,
    *,
    symmetry: str = "C1",
    within_deg: float = 10.0,
    most_pairs: int = 100_000,
    seed: int = 0,
) -> float:
    """Share of image pairs whose common line lies within `within_deg` of a true one in both images.

    Needs no gauge and no hand. A line is right if it is near any of the symmetry-equivalent ones. All pairs
    are looked at, or `most_pairs` drawn with `seed`. Raises ValueError for fewer than two images.
    """
    if len(found) != len(true) or len(found) < 2:
        raise ValueError("common lines need two or more images, with as many found as true rotations")
    first, second = np.triu_indices(len(found), 1)
    if len(first) > most_pairs:
        chosen = np.random.default_rng(seed).choice(len(first), most_pairs, replace=False)
        first, second = first[chosen], second[chosen]
    lines = common_line_angles_deg(found[first], found[second])
    return float(right_lines(lines, true[first], true[second], symmetry, within_deg).mean())


def found_line_share(
    angle_rad: FloatArray, true: FloatArray, *, symmetry: str = "C1", within_deg: float = 10.0
) -> float:
    """Share of lines that were looked for, not implied by rotations, which are right as in `common_line_share`.

    `angle_rad` (n, n): at [i, j] the direction in image i of the line it shares with image j.
    """
    first, second = np.triu_indices(len(true), 1)
    lines = np.rad2deg(np.stack([angle_rad[first, second], angle_rad[second, first]], axis=-1))
    return float(right_lines(lines, true[first], true[second], symmetry, within_deg).mean())


def right_lines(
    lines_deg: FloatArray, first: FloatArray, second: FloatArray, symmetry: str = "C1", within_deg: float = 10.0
) -> NDArray[np.bool_]:
    """Which of the lines (p, 2), directions in both images of a pair, are near one of rotations (p, 3, 3) each."""
    right = np.zeros(len(lines_deg), dtype=bool)
    for member in symmetry_rotations(symmetry):
        truth = common_line_angles_deg(first, second @ member)
        off = np.abs((lines_deg - truth + 180) % 360 - 180)  # (pairs, 2)
        right |= np.minimum(off.max(axis=1), (180 - off).max(axis=1)) <= within_deg
    return right
