"""Boxes that overlap on their micrograph: their particles share noise, so neither tells anything of the other.

Where a table has no coordinates, or no micrographs, all boxes count as apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from clarice.core.particles import ParticleSet, RowIndex


def overlapping(particles: ParticleSet, rows: RowIndex) -> NDArray[np.bool_]:
    """Which boxes of `rows` (k,) have a pixel in common on one micrograph, (k, k); none with itself."""
    centre, micrograph = particles.centre_angstrom, particles.micrograph
    if centre is None or micrograph is None:
        return np.zeros((len(rows), len(rows)), dtype=np.bool_)
    edge = particles.box * particles.pixel_size_angstrom
    x, y = centre[rows].T
    near = (np.abs(x[:, None] - x) < edge) & (np.abs(y[:, None] - y) < edge)
    near &= micrograph[rows][:, None] == micrograph[rows]
    np.fill_diagonal(near, val=False)
    return near


def halves_apart(particles: ParticleSet, rows: RowIndex) -> tuple[RowIndex, RowIndex]:
    """`rows` dealt out to two, in their order, so that no box of one overlaps one of the other.

    Boxes that overlap, or are joined by others that do, go together to whichever has fewer; the largest such group
    goes first, so that halves are about equal where none holds most of the rows.
    """
    _, member_of = connected_components(overlapping(particles, rows), directed=False)
    size = np.bincount(member_of, minlength=1)
    first = np.zeros(len(rows), dtype=np.bool_)
    dealt = [0, 0]
    for group in np.argsort(-size, kind="stable"):
        fewer = int(dealt[1] < dealt[0])
        first[member_of == group] = fewer == 0
        dealt[fewer] += int(size[group])
    return rows[first], rows[~first]
