"""Where particles were cut from their micrographs: read in Å from either kind of table, and kept in smaller images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clarice.core.particles import ArraySource
from clarice.io.cryosparc import CryosparcTable, read_fields, with_fields
from clarice.io.cryosparc_write import write_cs
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.io.star import read_star

StackMaker = Callable[..., NDArray[np.float32]]


def rows_of_four() -> NDArray[np.void]:
    """A table of the images in s.mrcs, of 8 pixels of 1.5 Å."""
    named = [("uid", "<u8"), ("blob/path", "S6"), ("blob/idx", "<u4"), ("blob/psize_A", "<f4")]
    rows = np.zeros(4, dtype=named)
    rows["uid"] = rows["blob/idx"] = np.arange(4)
    rows["blob/path"], rows["blob/psize_A"] = b"s.mrcs", 1.5
    return rows


def test_places_on_a_micrograph_are_shares_of_its_shape(tmp_path: Path, make_stack: StackMaker) -> None:
    places = {
        "location/micrograph_path": np.array([b"m.mrc"] * 4),
        "location/center_x_frac": np.array([0.5, 0.25, 0.0, 1.0], dtype=np.float32),
        "location/center_y_frac": np.array([0.5, 0.5, 0.125, 0.0], dtype=np.float32),
        "location/micrograph_shape": np.array([[800, 400]] * 4, dtype=np.uint32),
    }
    expected = np.array([[200, 400], [100, 400], [0, 100], [400, 0]])
    path = tmp_path / "p.cs"
    make_stack("s.mrcs", 4)
    for stated, size in ((None, 1.5), (0.75, 0.75), (0.0, 1.5)):  # 0: it was never set
        more = {} if stated is None else {"location/micrograph_psize_A": np.full(4, stated, dtype=np.float32)}
        write_cs(path, with_fields(rows_of_four(), {**places, **more}))
        particles = open_particles(path)
        assert particles.centre_angstrom is not None
        np.testing.assert_allclose(particles.centre_angstrom, size * expected)
        smaller = replace(particles, images=ArraySource(np.zeros((4, 4, 4), dtype=np.float32)), pixel_size_angstrom=3.0)
        write_particles(smaller, tmp_path / "small.cs", images_path=tmp_path / "s.mrcs")
        again = CryosparcTable(path, np.load(tmp_path / "small.cs"))
        found = read_fields(again, 3.0)["centre_angstrom"]
        np.testing.assert_allclose(found, particles.centre_angstrom)
    without = with_fields(rows_of_four(), {name: values for name, values in places.items() if "shape" not in name})
    assert read_fields(CryosparcTable(path, without), 1.5)["centre_angstrom"] is None


def test_coordinates_keep_their_meaning_when_images_are_made_smaller(tmp_path: Path, make_stack: StackMaker) -> None:
    """Where a table does not say how large a micrograph's pixels are, they are those of its images as they were."""
    make_stack("a.mrcs", 2)
    loop = "\n".join(["rlnImageName #1", "_rlnMicrographName #2", "_rlnCoordinateX #3", "_rlnCoordinateY #4"])
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n1 2.0\n"
    rows = "000001@a.mrcs m.mrc 100 0\n000002@a.mrcs m.mrc 12.5 40\n"
    (tmp_path / "p.star").write_text(f"{optics}\ndata_particles\n\nloop_\n_{loop}\n{rows}")
    particles = open_particles(tmp_path / "p.star")
    assert particles.centre_angstrom is not None
    assert particles.centre_angstrom.tolist() == [[200, 0], [25, 80]]
    small = replace(particles, images=ArraySource(np.zeros((2, 4, 4), dtype=np.float32)), pixel_size_angstrom=4.0)
    for name in ("small.star", "small.cs"):
        write_mrc(tmp_path / "small.mrcs", small.read(), 4.0)
        write_particles(small, tmp_path / name, images_path=tmp_path / "small.mrcs")
    again = open_particles(tmp_path / "small.star")
    assert again.pixel_size_angstrom == 4.0
    np.testing.assert_allclose(again.centre_angstrom, particles.centre_angstrom)
    assert read_star(tmp_path / "small.star")["optics"]["rlnMicrographOriginalPixelSize"].tolist() == ["2.000000"]
    # Images of the old size say it already.
    write_particles(particles, tmp_path / "same.star", images_path=tmp_path / "a.mrcs")
    assert "rlnMicrographOriginalPixelSize" not in read_star(tmp_path / "same.star")["optics"]
