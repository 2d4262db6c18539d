"""Every real table of particles goes through: rows, order and columns nobody knows stay, to the letter, in RELION's and
cryoSPARC's form; what is given replaces its own columns alone.
"""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from cryosparc.dataset import Dataset
from scipy.spatial.transform import Rotation

from clarice.core.particles import ParticleSet, Poses
from clarice.io.stack import open_particles, write_particles
from clarice.pipeline.preflight.check import check_file

# Tables of particles among the real files, with the box of their images and what a user must add to read them.
STAR: dict[str, tuple[int, dict[str, Any]]] = {
    "SOD_images.star.gz": (32, {"pixel_size_angstrom": 1.0}),
    "aspire_rln_proj_65.star": (65, {"pixel_size_angstrom": 1.0}),
    "aspire_rln_proj_65_shifted.star": (65, {"pixel_size_angstrom": 1.0}),
    "aspire_sample_incomplete_ctf_params.star": (32, {"pixel_size_angstrom": 1.0}),
    "aspire_sample_particles_relion30.star": (32, {"pixel_size_angstrom": 1.0}),
    "aspire_sample_particles_relion31.star": (32, {"pixel_size_angstrom": 1.0}),
    "aspire_sample_relion_one_image.star": (32, {"pixel_size_angstrom": 1.0}),
    "aspire_sample_relion_symmetry_group_D4.star": (32, {"pixel_size_angstrom": 1.0}),
    "relion30_PfCRT.star": (32, {}),
    "relion31_6opticsgroups.star": (196, {}),
    "relion_proj_batch_pfac3.star": (64, {}),
    "relion_ref_it002_data.star": (32, {}),
    "sphire_TcdA1-0187_frames_ptcls.star": (32, {"pixel_size_angstrom": 1.0}),
    "sphire_TcdA1-0188_frames_ptcls.star": (32, {"pixel_size_angstrom": 1.0}),
    "topaz_EMPIAR-10025_particles.star.gz": (32, {"pixel_size_angstrom": 1.0}),
}
CRYOSPARC = "cryosparc_P12_J24_001_particles.cs"
ONE_SIZE = "relion31_6opticsgroups.star"  # its groups differ in pixel size: each is a stack of its own


def columns(path: Path) -> dict[str, list[str]]:
    """The columns of the table that lists images, as text; read without our reader."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    for block in ("\n" + text).split("\ndata_")[1:]:
        lines = [line.strip() for line in block.splitlines()[1:] if line.strip() and not line.startswith("#")]
        names = [line.split()[0] for line in lines if line.startswith("_")]
        if "_rlnImageName" in names:
            rows = [shlex.split(line, posix=True) for line in lines if not line.startswith(("_", "loop_"))]
            return {name: [row[place] for row in rows] for place, name in enumerate(names)}
    raise AssertionError(f"{path} lists no images")


def with_images(source: Path, folder: Path, box: int) -> Path:
    """The table in a folder of its own, with empty stacks where it says that its images are."""
    table = folder / source.name
    table.write_bytes(source.read_bytes())
    for name, count in counted(columns(source)["_rlnImageName"]).items():
        write_empty(folder / name.lstrip("/"), count, box)
    return table


def counted(names: list[str]) -> dict[str, int]:
    largest: dict[str, int] = {}
    for text in names:
        number, at, name = text.rpartition("@")
        largest[name] = max(largest.get(name, 1), int(number) if at else 1)
    return largest


def write_empty(path: Path, count: int, box: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new_mmap(path, shape=(count, box, box), mrc_mode=2, overwrite=True) as file:
        file.set_image_stack()
        file.voxel_size = 1.0


def opened(table: Path, options: dict[str, Any]) -> list[ParticleSet]:
    """The table's particles: one set, or one of each optics group."""
    if table.name != ONE_SIZE:
        return [open_particles(table, table.parent, **options)]
    return [open_particles(table, table.parent, optics_group=group, **options) for group in range(1, 7)]


def decisions(count: int) -> dict[str, Any]:
    """What a run of ours adds."""
    rng = np.random.default_rng(1)
    poses = Poses(Rotation.random(count, rng=rng).as_matrix(), rng.normal(size=(count, 2)))
    return {"class_number": np.arange(count) % 7 + 1, "half_set": np.arange(count) % 2 + 1, "poses": poses}


def test_every_table_of_particles_is_among_these(shared_data: Path) -> None:
    folder = shared_data / "formats" / "star"
    listing = {
        p.name for p in folder.iterdir() if check_file(p).kind in ("images missing", "needs an option", "particles")
    }
    assert listing == set(STAR)


@pytest.mark.parametrize("name", STAR)
def test_star_keeps_every_row_and_column(shared_data: Path, tmp_path: Path, name: str) -> None:
    box, options = STAR[name]
    table = with_images(shared_data / "formats" / "star" / name, tmp_path, box)
    before = columns(table)
    count, seen = len(before["_rlnImageName"]), 0
    for number, particles in enumerate(opened(table, options)):
        out = tmp_path / f"out{number}.star"
        write_particles(particles, out, **decisions(len(particles)))
        after = columns(out)
        rows = rows_of(particles, before)
        seen += len(rows)
        changed = changed_columns(before)
        assert set(before) - changed <= set(after)
        for column in set(before) - changed:
            assert after[column] == [before[column][row] for row in rows], column
        again = open_particles(out, tmp_path, **{key: value for key, value in options.items() if key != "optics_group"})
        assert again.class_number is not None
        assert again.class_number.tolist() == decisions(len(rows))["class_number"].tolist()
        picked = np.arange(len(rows))[::-2]
        write_particles(particles.subset(picked), out)
        assert columns(out)["_rlnImageName"] == [after["_rlnImageName"][row] for row in picked]
        write_particles(particles, tmp_path / "out.cs", **decisions(len(particles)))
        ours = open_particles(tmp_path / "out.cs", tmp_path)
        assert (len(ours), ours.pixel_size_angstrom) == (len(rows), pytest.approx(particles.pixel_size_angstrom))
        assert ours.class_number is not None
        assert ours.class_number.tolist() == again.class_number.tolist()
        assert ours.poses is not None
        assert again.poses is not None
        assert np.allclose(ours.poses.rotations, again.poses.rotations, atol=1e-4)
        assert np.allclose(ours.poses.shifts_px, again.poses.shifts_px, atol=1e-4)
    assert seen == count


def rows_of(particles: ParticleSet, before: dict[str, list[str]]) -> list[int]:
    """Which rows of the file these are: all, or those of one optics group."""
    if "_rlnOpticsGroup" not in before or len(particles) == len(before["_rlnImageName"]):
        return list(range(len(particles)))
    assert particles.optics_group is not None
    wanted = {str(label) for label in np.unique(particles.optics_group)}
    return [row for row, group in enumerate(before["_rlnOpticsGroup"]) if group in wanted]


def changed_columns(before: dict[str, list[str]]) -> set[str]:
    """What the decisions replace, and what a table of 3.1 states in its optics instead."""
    given = {"_rlnClassNumber", "_rlnRandomSubset", "_rlnAngleRot", "_rlnAngleTilt", "_rlnAnglePsi"}
    given |= {f"_rlnOrigin{axis}{unit}" for axis in "XY" for unit in ("", "Angst")}
    if "_rlnOpticsGroup" in before:
        return given
    return given | {
        "_rlnVoltage", "_rlnSphericalAberration", "_rlnAmplitudeContrast", "_rlnDetectorPixelSize", "_rlnMagnification",
        "_rlnPixelSize", "_rlnImagePixelSize", "_rlnImageSize",
    }  # fmt: skip


def test_cs_keeps_every_row_and_field(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "formats" / "cs" / CRYOSPARC
    before = np.load(source)
    names = [name.decode() for name in before["blob/path"]]
    largest: dict[str, int] = {}
    for name, number in zip(names, before["blob/idx"], strict=True):
        largest[name] = max(largest.get(name, 0), int(number) + 1)
    for name, count in largest.items():
        write_empty(tmp_path / name, count, 180)
    particles = open_particles(source, tmp_path)
    write_particles(particles, tmp_path / "out.cs", **decisions(len(particles)))
    after = np.load(tmp_path / "out.cs")
    assert len(after) == len(before)
    given = ("alignments3D/pose", "alignments3D/shift", "alignments3D/split", "alignments2D", "alignments3D/psize_A")
    assert before.dtype.names is not None
    for field in before.dtype.names:
        assert field in after.dtype.names
        if not field.startswith(given):
            assert after[field].dtype == before[field].dtype, field
            assert np.array_equal(after[field], before[field]), field
    theirs = Dataset.load(str(tmp_path / "out.cs"))
    assert set(theirs.fields()) == set(after.dtype.names)
    assert np.array_equal(np.asarray(theirs["uid"]), before["uid"])
    assert np.array_equal(np.asarray(theirs["alignments3D/split"]), after["alignments3D/split"])
    picked = np.arange(len(before))[::-3]
    write_particles(particles.subset(picked), tmp_path / "some.cs")
    assert np.array_equal(np.load(tmp_path / "some.cs")["uid"], before["uid"][picked])
