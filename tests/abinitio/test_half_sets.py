"""Half sets: known ones stay, micrographs stay whole, sizes balance."""

from __future__ import annotations

import numpy as np
import pytest

from clarice.abinitio.half_sets import assign_half_sets


def micrographs(sizes: list[int], seed: int = 0) -> np.ndarray:
    names = np.repeat([f"m{index}" for index in range(len(sizes))], sizes)
    return np.random.default_rng(seed).permutation(names)


def test_known_half_sets_are_kept() -> None:
    known = np.array([1, 2, 2, 2, 1, 2], dtype=np.int8)
    assert assign_half_sets(6, 0, known, micrographs([3, 3])).tolist() == known.tolist()


@pytest.mark.parametrize("useless", [[1, 1, 1, 1], [0, 2, 2, 2], [0, 0, 0, 0]])
def test_half_sets_that_leave_one_half_empty_are_drawn_anew(useless: list[int]) -> None:
    halves = assign_half_sets(4, 0, np.array(useless, dtype=np.int8))
    assert sorted(halves.tolist()) == [1, 1, 2, 2]


def test_rows_without_a_half_set_join_those_of_their_micrograph() -> None:
    known = np.array([1, 0, 0, 2, 0, 0, 0], dtype=np.int8)
    names = np.array(["a", "a", "a", "b", "b", "c", "c"])
    halves = assign_half_sets(7, 0, known, names)
    assert halves[:5].tolist() == [1, 1, 1, 2, 2]
    assert halves[5:].tolist() == [2, 2]  # whole, to the smaller half
    assert assign_half_sets(4, 0, np.array([0, 1, 2, 1], dtype=np.int8)).tolist() == [2, 1, 2, 1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [[7] * 9, [1, 2, 3, 50, 20, 20, 11], list(range(1, 40))])
def test_micrographs_stay_whole_and_halves_balance(sizes: list[int], seed: int) -> None:
    names = micrographs(sizes, seed)
    halves = assign_half_sets(len(names), seed, micrograph=names)
    assert halves.dtype == np.int8
    assert set(halves.tolist()) == {1, 2}
    assert all(len(set(halves[names == name])) == 1 for name in np.unique(names))
    counts = np.bincount(halves, minlength=3)[1:]
    # Largest first to the smaller half: never further apart than the largest micrograph.
    assert abs(int(counts[0] - counts[1])) <= max(sizes)
    if len(sizes) > 20:
        assert abs(int(counts[0] - counts[1])) <= 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [[990, 10], [5, 5, 5], [700, 100, 100]])
def test_few_unequal_micrographs_are_not_kept_whole(sizes: list[int], seed: int) -> None:
    names = micrographs(sizes, seed)
    halves = assign_half_sets(len(names), seed, micrograph=names)
    assert abs(int((halves == 1).sum()) - int((halves == 2).sum())) <= 1
    assert np.array_equal(halves, assign_half_sets(len(names), seed, micrograph=names))
    assert not np.array_equal(halves, assign_half_sets(len(names), seed + 1, micrograph=names))


def test_what_is_known_stays_where_micrographs_are_not_kept_whole(caplog: pytest.LogCaptureFixture) -> None:
    known = np.zeros(100, dtype=np.int8)
    known[:4] = [1, 2, 2, 1]
    with caplog.at_level("INFO"):
        halves = assign_half_sets(100, 0, known, np.array(["large"] * 95 + ["small"] * 5))
    assert halves[:4].tolist() == [1, 2, 2, 1]
    assert np.bincount(halves).tolist() == [0, 50, 50]
    assert "half sets are drawn by particle" in caplog.text


def test_which_micrographs_go_together_depends_on_the_seed() -> None:
    names = micrographs([5] * 30)
    first, again, other = (assign_half_sets(150, seed, micrograph=names) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert 0.2 < float(np.mean(first == other)) < 0.8


@pytest.mark.parametrize("count", [2, 3, 400, 401])
def test_without_micrographs_particles_are_drawn_at_random(count: int) -> None:
    halves = assign_half_sets(count, 3)
    assert int((halves == 2).sum()) == count // 2
    assert int((halves == 1).sum()) == count - count // 2
    assert np.array_equal(halves, assign_half_sets(count, 3))
    if count >= 400:
        assert not np.array_equal(halves, assign_half_sets(count, 4))
        # Neither runs nor alternation: neighbours agree about half of the time.
        assert float(np.mean(halves[1:] == halves[:-1])) == pytest.approx(0.5, abs=0.1)


def test_a_single_micrograph_is_split_at_random() -> None:
    halves = assign_half_sets(100, 0, micrograph=np.array(["only"] * 100))
    assert np.bincount(halves).tolist() == [0, 50, 50]
