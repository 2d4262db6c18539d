"""Micrographs in their formats, and the CTF table beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.io.ctf_tables import ctf_table

from clarice.core.errors import InputError
from clarice.io.micrograph import read_micrograph, stated_pixel_size
from clarice.io.micrograph_ctf import MicrographCtf, read_micrograph_ctf
from clarice.io.mrc import write_mrc


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


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
    assert np.array_equal(read_micrograph(path), image)
    assert stated_pixel_size(path) == (pytest.approx(1.25) if suffix == ".mrc" else None)


def test_a_header_without_pixel_size_is_no_obstacle(tmp_path: Path) -> None:
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    write_mrc(tmp_path / "a.mrc", image, 1.25)
    with (tmp_path / "a.mrc").open("r+b") as file:
        file.seek(40)
        file.write(bytes(12))
    assert stated_pixel_size(tmp_path / "a.mrc") is None
    assert np.array_equal(read_micrograph(tmp_path / "a.mrc"), image)


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    """Their greys are what is seen, not their places in the palette; colours are refused."""
    places = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    for name, palette in (("grey", [200] * 3 + [30] * 3 + [90] * 3), ("colour", [200] * 3 + [30] * 3 + [90, 90, 91])):
        picture = Image.frombytes("P", (2, 2), places.tobytes())
        picture.putpalette(palette)
        picture.save(tmp_path / f"{name}.png")
    assert read_micrograph(tmp_path / "grey.png").tolist() == [[200, 30], [90, 30]]
    with pytest.raises(InputError, match=r"colour\.png is a picture in colour"):
        read_micrograph(tmp_path / "colour.png")


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


CTF = ctf_table(1.5, "Mic/")


def test_the_ctf_of_micrographs_is_read_with_its_optics(tmp_path: Path) -> None:
    found = read_micrograph_ctf(written(tmp_path / "ctf.star", CTF))
    assert found.by_stem["b"] == MicrographCtf(16000.0, 15000.0, 40.0)
    assert found.microscope == (300.0, 2.7, 0.1)
    assert found.pixel_size_angstrom == 1.5


def test_phase_shifts_and_figures_of_merit_are_read(tmp_path: Path) -> None:
    text = CTF.replace("Angle #5\n", "Angle #5\n_rlnPhaseShift #6\n_rlnCtfFigureOfMerit #7\n")
    text = text.replace("14000 30\n", "14000 30 45 0.2\n").replace("15000 40\n", "15000 40 90 0.3\n")
    found = read_micrograph_ctf(written(tmp_path / "ctf.star", text))
    assert found.by_stem["a"] == MicrographCtf(15000.0, 14000.0, 30.0, 45.0, 0.2)
    text = CTF.replace("PixelSize #5\n", "PixelSize #5\n_rlnPhaseShift #6\n").replace("0.1 1.5\n", "0.1 1.5 60\n")
    assert read_micrograph_ctf(written(tmp_path / "group.star", text)).by_stem["b"].phase_shift_deg == 60


def test_ambiguous_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two micrographs are named a"):
        read_micrograph_ctf(written(tmp_path / "twice.star", CTF.replace("Mic/b", "Other/a")))
    with pytest.raises(InputError, match="_rlnDefocusU"):
        read_micrograph_ctf(written(tmp_path / "none.star", CTF.replace("_rlnDefocusU #3\n", "_rlnOther #3\n")))
    two = CTF.replace("1 300 2.7 0.1 1.5\n", "1 300 2.7 0.1 1.5\n2 200 2.7 0.1 1.5\n")
    with pytest.raises(InputError, match="_rlnVoltage differs"):
        read_micrograph_ctf(written(tmp_path / "two.star", two))
