"""Coordinates in their formats, and which of them belong to a micrograph."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarice.core.errors import InputError
from clarice.io.picks import picks_stem, read_picks


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


STAR = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n10.5 20\n30 40\n"
NAMED = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\nMic/a.mrc 1 2\nMic/b.mrc 3 4\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.star", STAR),
        ("a.csv", "10.5,20\n30,40\n"),
        ("a.csv", "y_coord,x_coord\n20,10.5\n40,30\n"),
        ("a.tsv", "x\ty\tscore\n10.5\t20\t1\n30\t40\t2\n"),
        ("a.txt", "# picked by hand\n10.5 20\n\n30 40\n"),
        ("a.coord", "10.5\t20\n30\t40\n"),
        ("a.box", "5.5 15 10 10\n25\t35\t10\t10\n"),
        ("a.box", "# x y w h\n5.5 15 10 10\n# and one more\n25 35 10 10\n"),
        ("a.csv", "# y,x\n20,10.5\n40,30\n"),
        ("a.csv", "# y x\n20,10.5\n40,30\n"),
        ("a.txt", "# score y x\n1 20 10.5\n1 40 30\n"),
        ("a.csv", "# y and x of particles, by hand\n10.5,20\n30,40\n"),
        ("a.csv", "\ufeffy,x\n20,10.5\n40,30\n"),
    ],
)
def test_every_format_gives_the_centres(tmp_path: Path, name: str, text: str) -> None:
    picks = read_picks(written(tmp_path / name, text))
    assert picks.centres_px.tolist() == [[10.5, 20.0], [30.0, 40.0]]
    assert picks.micrograph is None
    assert len(picks.of(Path("anything.mrc"))) == 2


@pytest.mark.parametrize(
    ("name", "text"), [("a.star", NAMED), ("topaz.txt", "image_name\tx_coord\ty_coord\na\t1\t2\nb\t3\t4\n")]
)
def test_picks_of_several_micrographs_are_told_apart(tmp_path: Path, name: str, text: str) -> None:
    picks = read_picks(written(tmp_path / name, text))
    assert picks.of(Path("b.mrc")).tolist() == [[3.0, 4.0]]
    assert len(picks.of(Path("c.mrc"))) == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "1,2\n3,four\n", r"a\.csv: line 2 \(3 four\) holds no numbers where they belong"),
        ("a.csv", "# by hand\n\n1,2\n3\n", r"a\.csv: line 4 has 1 values where 2 belong"),
        ("a.csv", "x,score,y\n1,2,3\n4,5\n", r"a\.csv: line 3 has 2 of the 3 columns that its header names"),
        ("a.csv", "x,y,micrograph\n1,2,a\n4,5\n", r"line 3 has 2 of the 3 columns"),
        ("a.csv", "x,y,micrograph\n1,2,a\n4,5,\n", r"line 3 names no micrograph in the column micrograph"),
        ("a.csv", "x,z\n1,2\n", "none of y: name it y or y_coord"),
        ("a.csv", "z,y\n1,2\n", "none of x: name it x or x_coord"),
        ("a.csv", "x,y\n1,2\n1,nan\n", "line 3 holds a coordinate that is no number"),
        pytest.param("a.csv", "1,2\n3," + "4" * 140_000 + "\n", r"line 2 is no row of a table", id="endless cell"),
        ("a.csv", "# nothing\n", "lists no particle"),
        ("a.box", "# x y\n1 2\n", "line 2 has 2 values where 4 belong"),
        ("a.star", "data_\n\nloop_\n_rlnMicrographName #1\na.mrc\n", "_rlnCoordinateX"),
        ("a.doc", "1 2\n", "no table of coordinates"),
    ],
)
def test_what_is_no_coordinate_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_picks(written(tmp_path / name, text))


def test_a_missing_file_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_picks(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="is no text"):
        read_picks(tmp_path / "b.csv")


def test_names_with_dots_are_whole_where_they_have_no_ending(tmp_path: Path) -> None:
    picks = read_picks(written(tmp_path / "topaz.txt", "image_name\tx_coord\ty_coord\nMay08_03.15\t1\t2\n"))
    assert len(picks.of(Path("May08_03.15.mrc"))) == 1
    assert len(picks.of(Path("May08_03.mrc"))) == 0
    assert picks_stem(Path("May08_03.15.02.csv")) == "May08_03.15.02"
    assert picks_stem(Path("a_autopick.star.gz")) == "a_autopick"
    assert picks_stem(Path("a.json")) is None


def test_micrographs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    picks = read_picks(written(tmp_path / "a.star", NAMED.replace("Mic/a", "d1/a").replace("Mic/b", "d2/a")))
    assert picks.of(tmp_path / "d2" / "a.mrc").tolist() == [[3.0, 4.0]]
    assert picks.left_by([tmp_path / "d2" / "a.mrc"]) == {"d1/a.mrc": 1}
    with pytest.raises(InputError, match=r"picks of d1/a\.mrc and of d2/a\.mrc, and which of them .*mic/a\.mrc is"):
        picks.of(tmp_path / "mic" / "a.mrc")


def test_a_table_may_have_no_row(tmp_path: Path) -> None:
    picks = read_picks(written(tmp_path / "a.csv", "micrograph,x,y\n"))
    assert len(picks.of(Path("a.mrc"))) == 0
    assert picks.left_by([]) == {}


OPTICS = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n{columns}\n1 {values}\n\n"


@pytest.mark.parametrize(
    ("columns", "values", "size"),
    [
        ("_rlnMicrographPixelSize", "1.5", 1.5),
        ("_rlnMicrographOriginalPixelSize\n_rlnMicrographPixelSize", "0.75 1.5", 1.5),
        ("_rlnMicrographOriginalPixelSize", "0.75", 0.75),
        ("_rlnDetectorPixelSize\n_rlnMagnification", "5 40000", 1.25),
        ("_rlnVoltage", "300", None),
    ],
)
def test_the_pixel_size_of_picks_is_read(tmp_path: Path, columns: str, values: str, size: float | None) -> None:
    text = OPTICS.format(columns=columns, values=values) + STAR.replace("data_", "data_particles")
    assert read_picks(written(tmp_path / "a.star", text)).pixel_size_angstrom == size


def test_a_pixel_size_that_cannot_be_is_refused(tmp_path: Path) -> None:
    text = OPTICS.format(columns="_rlnMicrographPixelSize", values="0") + STAR.replace("data_", "data_particles")
    with pytest.raises(InputError, match="pixel size of 0 Å"):
        read_picks(written(tmp_path / "a.star", text))
