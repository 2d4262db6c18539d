"""Results of parts: kept, found again, and shared out among processes, with the numbers of a single call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clarice.core.errors import OutputError
from clarice.core.particles import RowIndex
from clarice.io.kept_results import Arrays, Keeping, map_parts, results_kept

PARTS = np.array_split(np.arange(40), 7)


class Squares:
    """Work that counts what it did, and breaks off at a part if asked to."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.breaks_at = breaks_at
        self.done: list[int] = []

    def __call__(self, rows: RowIndex) -> Arrays:
        if self.breaks_at is not None and rows[0] >= PARTS[self.breaks_at][0]:
            raise KeyboardInterrupt
        self.done.append(int(rows[0]))
        return {"square": rows**2, "sum": np.array([rows.sum()], dtype=np.float32)}


def collected(found: Iterator[tuple[RowIndex, Arrays]]) -> dict[str, np.ndarray]:
    parts = list(found)
    return {name: np.concatenate([arrays[name] for _, arrays in parts]) for name in ("square", "sum")}


def both_maps(work: Squares, at_once: bool = True) -> list[dict[str, np.ndarray]]:
    """Two maps in a row, as a method makes them."""
    return [collected(map_parts(label, work, PARTS, at_once=at_once)) for label in ("first pass", "second pass")]


def assert_right(found: list[dict[str, np.ndarray]]) -> None:
    for arrays in found:
        assert np.array_equal(arrays["square"], np.arange(40) ** 2)
        assert arrays["sum"].tolist() == [float(part.sum()) for part in PARTS]


@pytest.mark.parametrize("at_once", [True, False])
def test_nothing_is_kept_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    monkeypatch.chdir(tmp_path)
    assert_right(both_maps(Squares(), at_once))
    with results_kept(Keeping(tmp_path / "kept")), results_kept(None):
        assert_right(both_maps(Squares(), at_once))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_work_goes_on_where_it_stopped(tmp_path: Path) -> None:
    stopped, rest = Squares(breaks_at=4), Squares()
    with results_kept(Keeping(tmp_path)), pytest.raises(KeyboardInterrupt):
        both_maps(stopped, at_once=False)
    assert stopped.done == [int(part[0]) for part in PARTS[:4]]
    with results_kept(Keeping(tmp_path)):
        assert_right(both_maps(rest, at_once=False))
    assert rest.done == [int(part[0]) for part in (*PARTS[4:], *PARTS)]  # each map has results of its own


def test_a_damaged_result_is_computed_anew(tmp_path: Path) -> None:
    with results_kept(Keeping(tmp_path)):
        both_maps(Squares())
    path = sorted(tmp_path.rglob("*.safetensors"))[2]
    path.write_bytes(path.read_bytes()[:20])
    again = Squares()
    with results_kept(Keeping(tmp_path)):
        assert_right(both_maps(again))
    assert again.done == [int(PARTS[2][0])]


def test_a_result_that_vanishes_is_told(tmp_path: Path) -> None:
    with results_kept(Keeping(tmp_path)):
        found = map_parts("pass", Squares(), PARTS)
        next(found)
        sorted(tmp_path.rglob("*.safetensors"))[3].unlink()
        with pytest.raises(OutputError, match="start the command again"):
            list(found)


def test_a_result_about_other_rows_is_computed_anew(tmp_path: Path) -> None:
    """Parts may follow from the data: another machine can come to others."""
    with results_kept(Keeping(tmp_path)):
        list(map_parts("pass", Squares(), PARTS))
    others, work = [*PARTS[:2], *np.array_split(np.arange(PARTS[2][0], 40), 5)[::-1]], Squares()
    with results_kept(Keeping(tmp_path)):
        found = list(map_parts("pass", work, others, at_once=False))
    assert all(np.array_equal(arrays["square"], rows**2) for rows, arrays in found)
    assert len(work.done) == 4  # the middle one of the reversed parts is where it was


def test_another_job_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    for job, computed in (("a", 14), ("a", 0), ("b", 14)):
        work, keeping = Squares(), Keeping(folder)
        keeping.begin(job)
        with results_kept(keeping):
            assert_right(both_maps(work))
        assert len(work.done) == computed
    assert keeping.holds_results
    keeping.discard()
    assert not folder.exists()


def test_processes_share_out_the_parts_and_see_the_same_results(tmp_path: Path) -> None:
    barrier = threading.Barrier(3)
    work = [Squares() for _ in range(3)]
    found: dict[int, list[dict[str, np.ndarray]]] = {}
    last: dict[int, int] = {}

    def process(rank: int) -> None:
        keeping = Keeping(tmp_path / "kept", rank, 3, lambda: barrier.wait() and None)
        keeping.begin("a job")
        with results_kept(keeping):
            found[rank] = both_maps(work[rank], at_once=False)
            last[rank] = len(list(map_parts("third", work[rank], PARTS, at_once=False, for_all=False)))

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for rank in range(3):
        assert_right(found[rank])
        assert work[rank].done == [int(part[0]) for part in PARTS[rank::3]] * 3
    assert last == {0: 7, 1: 0, 2: 0}


def test_progress_counts_the_rows_that_are_left_to_this_process(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    with results_kept(Keeping(tmp_path, rank=1, world=2)):
        list(map_parts("a pass", Squares(), PARTS, lambda *told: heard.append(told), at_once=False, for_all=False))
    sizes = [len(part) for part in PARTS[1::2]]
    assert heard == [("a pass", int(done), sum(sizes)) for done in np.cumsum(sizes)]
