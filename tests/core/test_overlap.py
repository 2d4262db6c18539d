"""Boxes that overlap on their micrograph, against their pixels laid out one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clarice.core.overlap import halves_apart, overlapping
from clarice.core.particles import ArraySource, FloatArray, ParticleSet

BOX, PIXEL_ANGSTROM = 6, 2.0


def placed(centre_px: FloatArray, micrograph: list[str]) -> ParticleSet:
    images = np.zeros((len(centre_px), BOX, BOX), dtype=np.float32)
    return ParticleSet(
        ArraySource(images),
        PIXEL_ANGSTROM,
        micrograph=np.array(micrograph),
        centre_angstrom=centre_px * PIXEL_ANGSTROM,
    )


def on_two_micrographs(count: int = 40) -> ParticleSet:
    generator = np.random.default_rng(5)
    return placed(generator.integers(0, 30, size=(count, 2)).astype(float), list(generator.choice(["a", "b"], count)))


def pixels(particles: ParticleSet, row: int) -> set[tuple[str, int, int]]:
    assert particles.centre_angstrom is not None
    assert particles.micrograph is not None
    x, y = (particles.centre_angstrom[row] / PIXEL_ANGSTROM).astype(int)
    name = str(particles.micrograph[row])
    return {(name, x + i, y + j) for i in range(-BOX // 2, BOX // 2) for j in range(-BOX // 2, BOX // 2)}


def test_boxes_overlap_where_they_have_a_pixel_in_common() -> None:
    particles, rows = on_two_micrographs(), np.array([7, 3, 30, 12, 9, 25, 0, 18, 36, 21, 4, 15])
    found = overlapping(particles, rows)
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            shared = pixels(particles, one) & pixels(particles, other)
            assert found[i, j] == (i != j and bool(shared))
    assert 0 < found.sum() < found.size / 2


def test_all_count_as_apart_where_places_are_unknown() -> None:
    particles = placed(np.zeros((3, 2)), ["a"] * 3)
    assert overlapping(particles, np.arange(3)).sum() == 6
    for unknown in (replace(particles, micrograph=None), replace(particles, centre_angstrom=None)):
        assert not overlapping(unknown, np.arange(3)).any()
    lost = placed(np.full((3, 2), np.nan), ["a"] * 3)
    assert not overlapping(lost, np.arange(3)).any()


def test_halves_have_no_pixel_in_common_and_are_about_equal() -> None:
    particles, rows = on_two_micrographs(60), np.random.default_rng(2).permutation(60)[:24]
    first, second = halves_apart(particles, rows)
    assert sorted([*first, *second]) == sorted(rows)
    assert not set.intersection(*(set.union(*(pixels(particles, row) for row in half)) for half in (first, second)))
    assert min(len(first), len(second)) >= 10
    # As given within each half, and dealt one by one where none overlap.
    assert [row for row in rows if row in first] == list(first)
    apart = placed(10.0 * np.arange(16, dtype=np.float64).reshape(8, 2), ["a"] * 8)
    assert [half.tolist() for half in halves_apart(apart, np.arange(8))] == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_none_and_one_are_dealt_out_as_well() -> None:
    particles = placed(np.zeros((2, 2)), ["a", "a"])
    assert [half.tolist() for half in halves_apart(particles, np.arange(0))] == [[], []]
    assert [half.tolist() for half in halves_apart(particles, np.arange(2))] == [[0, 1], []]
