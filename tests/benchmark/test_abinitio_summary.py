"""What rows of first maps say together."""

from __future__ import annotations

from clarice.benchmark.abinitio_contest import COLUMNS, KEYS, NAME, VERSION
from clarice.benchmark.abinitio_methods import BOTH, RELION
from clarice.benchmark.abinitio_summary import beside_relion, summarise
from clarice.benchmark.records import Results, Row


def test_first_maps_and_refined_ones_are_counted_apart_and_unfinished_ones_not_at_all() -> None:
    results = Results(NAME, VERSION, {}, KEYS, COLUMNS)
    rows: list[Row] = [
        {"first_right": False, "right": True, "first_05_px": 6.0, "fsc_05_px": 3.0},
        {"first_right": True, "right": True, "first_05_px": 4.0, "fsc_05_px": 2.0},
        {"first_right": True, "right": True, "first_05_px": 1.0, "fsc_05_px": 1.0, "lower_bound": True},
    ]
    for seed, row in enumerate(rows):
        results.put({"entry": "molecule-105", "seed": seed, "ctf": "on", "snr": 0.5, "method": RELION, **row})
    summarise(results)
    (told,) = results.summary.values()
    assert told.startswith("first map right 1 of 2 (0.50); refined right 2 of 2 (1.00); first map's FSC 0.5 5.00 px")
    assert "refined 2.50 px" in told
    assert told.endswith("1 left out, their time having run out")
    results.rows = results.rows[2:]
    summarise(results)
    assert list(results.summary.values()) == ["1 left out, their time having run out"]


def row_of(entry: str, method: str, **more: object) -> Row:
    return {"entry": entry, "seed": 1, "ctf": "on", "snr": 0.05, "method": method, **more}


def test_our_refined_maps_stand_beside_relions_models_of_the_same_stacks() -> None:
    rows = [
        row_of("1abc", BOTH, fsc_05_px=2.0, seconds=150.0),
        row_of("1abc", RELION, first_05_px=3.0, first_seconds=3000.0, fsc_05_px=2.0, seconds=3100.0),
        row_of("2abc", BOTH, fsc_05_px=4.0, seconds=100.0),
        row_of("2abc", RELION, first_05_px=3.5, first_seconds=1000.0),
        row_of("3abc", BOTH, fsc_05_px=2.0, seconds=100.0),
        row_of("3abc", RELION, failed=True, note="RELION is not installed"),
    ]
    told = beside_relion(rows, BOTH)
    assert told is not None
    assert told.startswith("finer by 0.25 px")  # 1.0 finer and 0.5 coarser
    assert "in 0.075" in told
    assert told.endswith("over 2 stacks")
    assert beside_relion(rows, RELION) is None
    assert beside_relion([row for row in rows if row["method"] == BOTH], BOTH) is None


def test_structures_that_stand_apart_count_in_one_share_more() -> None:
    results = Results(NAME, VERSION, {}, KEYS, COLUMNS)
    for entry, right, apart in (("1abc", True, False), ("2abc", False, True), ("3abc", True, True)):
        results.put(row_of(entry, BOTH, first_right=right, right=right, apart=apart, fsc_05_px=2.0))
    summarise(results)
    name = f"CTF and shifts on, SNR 0.05, {BOTH}"
    assert results.summary[name].startswith("first map right 1 of 1")
    assert results.summary[f"{name}, those apart included"].startswith("refined right 2 of 3 (0.67")
    assert len(results.summary) == 3
