"""Coordinates in their formats, micrographs in theirs, and the CTF table beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarice.core.errors import InputError
from clarice.io.micrograph import read_micrograph
from clarice.io.micrograph_ctf import read_micrograph_ctf
from clarice.io.mrc import write_mrc
from clarice.io.picks import read_picks


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
    ],
)
def test_every_format_gives_the_centres(tmp_path: Path, name: str, text: str) -> None:
    picks = read_picks(written(tmp_path / name, text))
    assert picks.centres_px.tolist() == [[10.5, 20.0], [30.0, 40.0]]
    assert picks.micrograph is None
    assert len(picks.of("anything")) == 2


@pytest.mark.parametrize(
    ("name", "text"), [("a.star", NAMED), ("topaz.txt", "image_name\tx_coord\ty_coord\na\t1\t2\nb\t3\t4\n")]
)
def test_picks_of_several_micrographs_are_told_apart(tmp_path: Path, name: str, text: str) -> None:
    picks = read_picks(written(tmp_path / name, text))
    assert picks.of("b").tolist() == [[3.0, 4.0]]
    assert len(picks.of("c")) == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "1,2\n3,four\n", r"row 2 .*is not a pair of numbers"),
        ("a.csv", "1\n", "row 1 has 1 numbers where 2 belong"),
        ("a.csv", "x,z\n1,2\n", "none of y"),
        ("a.csv", "1,nan\n", "no number"),
        ("a.csv", "# nothing\n", "lists no particle"),
        ("a.box", "1 2\n", "has 2 numbers where 4 belong"),
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


@pytest.mark.parametrize("suffix", [".mrc", ".png", ".tif"])
def test_micrographs_lie_as_in_their_files(tmp_path: Path, suffix: str) -> None:
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    path = tmp_path / f"a{suffix}"
    if suffix == ".mrc":
        write_mrc(path, image, 1.25)
    elif suffix == ".tif":
        Image.fromarray(image).save(path)
    else:
        Image.fromarray(image.astype(np.uint8)).save(path)
    found = read_micrograph(path)
    assert np.array_equal(found.image, image)
    assert found.pixel_size_angstrom == (pytest.approx(1.25) if suffix == ".mrc" else None)


def test_what_is_no_micrograph_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match="picture in colour"):
        read_micrograph(tmp_path / "colour.png")
    written(tmp_path / "text.png", "no picture")
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_micrograph(tmp_path / "text.png")
    write_mrc(tmp_path / "stack.mrc", np.zeros((3, 4, 4), dtype=np.float32), 1.0)
    with pytest.raises(InputError, match="holds 3 images"):
        read_micrograph(tmp_path / "stack.mrc")
    frames = [Image.fromarray(np.zeros((4, 4), dtype=np.uint8)) for _ in range(2)]
    frames[0].save(tmp_path / "movie.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="holds 2 images"):
        read_micrograph(tmp_path / "movie.tif")


CTF = """data_optics

loop_
_rlnOpticsGroup #1
_rlnVoltage #2
_rlnSphericalAberration #3
_rlnAmplitudeContrast #4
_rlnMicrographPixelSize #5
1 300 2.7 0.1 1.5

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
Mic/a.mrc 1 15000 14000 30
Mic/b.mrc 1 16000 15000 40
"""


def test_the_ctf_of_micrographs_is_read_with_its_optics(tmp_path: Path) -> None:
    found = read_micrograph_ctf(written(tmp_path / "ctf.star", CTF))
    assert found.by_stem["b"][:3] == (16000.0, 15000.0, 40.0)
    assert found.microscope == (300.0, 2.7, 0.1)
    assert found.pixel_size_angstrom == 1.5


def test_ambiguous_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two micrographs are named a"):
        read_micrograph_ctf(written(tmp_path / "twice.star", CTF.replace("Mic/b", "Other/a")))
    with pytest.raises(InputError, match="_rlnDefocusU"):
        read_micrograph_ctf(written(tmp_path / "none.star", NAMED))
    two = CTF.replace("1 300 2.7 0.1 1.5\n", "1 300 2.7 0.1 1.5\n2 200 2.7 0.1 1.5\n")
    with pytest.raises(InputError, match="_rlnVoltage differs"):
        read_micrograph_ctf(written(tmp_path / "two.star", two))
