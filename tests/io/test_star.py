"""STAR files: real ones of every dialect, kept to the letter."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile

from clarice.core.errors import InputError
from clarice.io.star import floats, format_column, integers, is_single_row, read_star, write_star

BROKEN = {
    "symop.star": "loop besides other values",
    "sample.star": "5 values where block data_planetary has 4",
}
STARFILE_FAILS = {"symop.star", "sample.star"}


def star_files(shared_data: Path) -> list[Path]:
    files = [*shared_data.glob("formats/**/*.star*"), *shared_data.glob("particles/**/*.star")]
    assert len(files) > 35
    return sorted(files)


def test_real_files_survive_a_round_trip_to_the_letter(shared_data: Path, tmp_path: Path) -> None:
    for path in star_files(shared_data):
        if path.name in BROKEN:
            with pytest.raises(InputError, match=BROKEN[path.name]):
                read_star(path)
            continue
        blocks = read_star(path)
        write_star(tmp_path / "copy.star", blocks)
        again = read_star(tmp_path / "copy.star")
        assert list(again) == list(blocks), path
        for name, block in blocks.items():
            assert list(again[name].columns) == list(block.columns)
            assert is_single_row(again[name]) == is_single_row(block)
            assert (again[name].to_numpy() == block.to_numpy()).all(), path


def test_values_agree_with_the_starfile_library(shared_data: Path) -> None:
    compared = 0
    for path in star_files(shared_data):
        if path.name in STARFILE_FAILS or path.suffix == ".gz":
            continue
        theirs = starfile.read(path, always_dict=True)
        for name, block in read_star(path).items():
            if isinstance(theirs[name], pd.DataFrame) and not is_single_row(block):
                assert theirs[name].shape == block.shape
                for column in block:
                    if pd.api.types.is_numeric_dtype(theirs[name][column]):
                        np.testing.assert_allclose(floats(block, column, "x"), theirs[name][column])
                        compared += 1
    assert compared > 200


def test_gzipped_file_is_read(shared_data: Path) -> None:
    assert len(read_star(shared_data / "formats/star/SOD_images.star.gz")["images"]) == 6496


def test_quotes_comments_and_odd_layout(tmp_path: Path) -> None:
    path = tmp_path / "q.star"
    path.write_text(
        "# top\r\n\r\ndata_one # note\r\n_alpha 'two words'\r\n_beta #3\r\n\r\n"
        'data_\nloop_\n_name #1\n_x #2\n"a b" 1 # tail\n\n# between\ndata_set/x.mrc\t2\n  it\'s 3\n'
    )
    blocks = read_star(path)
    assert blocks["one"].iloc[0].tolist() == ["two words", ""]
    assert blocks[""].to_numpy().tolist() == [["a b", "1"], ["data_set/x.mrc", "2"], ["it's", "3"]]
    write_star(path, blocks)
    again = read_star(path)
    assert again[""].equals(blocks[""])
    assert again["one"].equals(blocks["one"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "not a STAR file"),
        ("hello\ndata_\n", "line 1: text before"),
        ("data_a\nloop_\n_x\n_y\n1 2\n1 2 3\n", r"line 6: 3 values where block data_a has 2"),
        ("data_a\nloop_\n_x\n_x\n1 2\n", "_x appears twice"),
        ("data_a\n_x 1\ndata_a\n_x 2\n", "data_a appears twice"),
        ("data_a\nloop_\n_x\n1\nloop_\n_y\n2\n", "holds a second table"),
        ("data_a\n1 2\n", "a value without a column"),
        ("data_a\n_x 1 2\n", "2 values where one belongs"),
    ],
)
def test_damage_is_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.star").write_text(text)
    with pytest.raises(InputError, match=message):
        read_star(tmp_path / "d.star")


def test_missing_binary_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_star(tmp_path / "none.star")
    (tmp_path / "b.star").write_bytes(b"data_\0\0")
    with pytest.raises(InputError, match="binary"):
        read_star(tmp_path / "b.star")
    (tmp_path / "g.star.gz").write_bytes(b"\x1f\x8b\x08\x00garbage garbage")
    with pytest.raises(InputError, match="cannot read"):
        read_star(tmp_path / "g.star.gz")


def test_numbers_are_checked_by_row() -> None:
    block = pd.DataFrame({"a": ["1.5", "x", "3"], "b": ["1", "2.5", "3"], "c": ["nan", "1", "2"]})
    with pytest.raises(InputError, match="f: row 2 of column _a is 'x', not a number"):
        floats(block, "a", "f")
    with pytest.raises(InputError, match=r"row 2 of column _b is 2.5, not a whole number"):
        integers(block, "b", "f")
    with pytest.raises(InputError, match="row 1 of column _c"):
        floats(block, "c", "f")


def test_written_numbers_lose_nothing_that_matters() -> None:
    values = np.array([0.0, 1e-9, -3.25, 123456.789, 2.5e7, 0.001])
    again = np.array([float(text) for text in format_column(values)])
    np.testing.assert_allclose(again, values, rtol=1e-6, atol=0)
    assert format_column(np.array([True, False])) == ["1", "0"]
    assert format_column(np.array(["a b", "", "_x"], dtype=object)) == ['"a b"', '""', '"_x"']


def test_a_hundred_thousand_rows_stay_fast(tmp_path: Path) -> None:
    count = 100_000
    block = pd.DataFrame({f"rlnColumn{k}": np.random.default_rng(k).normal(size=count) for k in range(20)})
    started = time.monotonic()
    write_star(tmp_path / "big.star", {"particles": block})
    again = read_star(tmp_path / "big.star")["particles"]
    values = floats(again, "rlnColumn7", "big")
    assert time.monotonic() - started < 20  # about 3 s on one free core
    np.testing.assert_allclose(values, block["rlnColumn7"], atol=1e-6)
