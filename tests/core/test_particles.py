"""Particle sets: subsets are views, rows and everything known about them stay together."""

from __future__ import annotations

import numpy as np

from clarice.core.particles import ArraySource, Optics, ParticleSet, Poses, SubsetSource


def numbered(count: int = 10) -> ParticleSet:
    """Images, optics and poses that all tell their row."""
    rows = np.arange(count, dtype=np.float64)
    images = np.broadcast_to(rows[:, None, None], (count, 4, 4)).astype(np.float32)
    return ParticleSet(
        ArraySource(images),
        2.0,
        optics=Optics(*([rows] * 8)),
        poses=Poses(np.broadcast_to(rows[:, None, None], (count, 3, 3)), np.stack([rows, rows], axis=1)),
        half_set=(rows % 2 + 1).astype(np.int8),
        micrograph=np.array([f"m{int(row)}" for row in rows]),
        centre_angstrom=np.stack([rows, -rows], axis=1),
    )


def test_a_subset_of_a_subset_is_a_view_of_the_source() -> None:
    particles = numbered()
    chosen = particles.subset(np.array([7, 2, 5])).subset(np.array([2, 0]))
    assert isinstance(chosen.images, SubsetSource)
    assert chosen.images.parent is particles.images
    assert chosen.optics is not None
    assert chosen.poses is not None
    assert chosen.micrograph is not None
    np.testing.assert_array_equal(chosen.read()[:, 0, 0], [5, 7])
    np.testing.assert_array_equal(chosen.optics.defocus_u_angstrom, [5, 7])
    np.testing.assert_array_equal(chosen.poses.shifts_px[:, 0], [5, 7])
    assert chosen.micrograph.tolist() == ["m5", "m7"]
    assert chosen.centre_angstrom is not None
    np.testing.assert_array_equal(chosen.centre_angstrom, [[5, -5], [7, -7]])
    assert chosen.class_number is None


def test_chunks_cover_every_row_once_in_order() -> None:
    chunks = list(numbered().chunks(4))
    assert [len(rows) for rows, _ in chunks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([images[:, 0, 0] for _, images in chunks]), np.arange(10))
