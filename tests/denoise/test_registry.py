"""Half sets denoised apart and merged back in row order, however they lie in the stack."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clarice.core.particles import ArraySource, ParticleSet, RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import Denoiser, denoiser, denoiser_names, merged
from clarice.physics.noisy_set import NoisySet, white_set


def by_threes(noisy: NoisySet, *, progress: Progress = silent) -> Iterator[tuple[RowIndex, NDArray[np.float32]]]:
    """Passes images on, three at a time, marked with the size of the set they were seen in."""
    for start in range(0, len(noisy), 3):
        rows = np.arange(start, min(start + 3, len(noisy)))
        yield rows, noisy.images(rows).numpy() + 1000 * len(noisy)


def numbered(count: int) -> NoisySet:
    images = np.arange(count, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), dtype=np.float32)
    return white_set(ParticleSet(ArraySource(images), 1.0))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_merging_keeps_every_row_in_order(labels: list[int]) -> None:
    noisy = numbered(len(labels))
    parts = [np.flatnonzero(np.array(labels) == label) for label in sorted(set(labels))]
    stream = list(merged([(rows, by_threes(noisy.subset(rows))) for rows in parts]))
    rows = np.concatenate([part for part, _ in stream])
    values = np.concatenate([images[:, 0, 0] for _, images in stream])
    sizes = np.array([labels.count(label) for label in labels])
    assert np.array_equal(rows, np.arange(len(labels)))
    assert np.array_equal(values, np.arange(len(labels)) + 1000 * sizes)


def test_an_empty_set_gives_nothing() -> None:
    noisy = numbered(5).subset(np.empty(0, dtype=np.int64))
    assert list(Denoiser("threes", "", by_threes)(noisy)) == []


def test_a_name_belongs_to_one_function() -> None:
    assert "wiener" in denoiser_names()
    with pytest.raises(ValueError, match="two denoisers"):
        denoiser("wiener", "another")(by_threes)
