"""Writing back: rows, unknown columns and untouched text stay; what is given is new."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from clarice.core.errors import OutputError, UsageError
from clarice.core.particles import ArraySource, Optics, ParticleSet, Poses
from clarice.io.cryosparc_write import write_cs
from clarice.io.mrc import MrcSource, write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.io.star import read_star

StackMaker = Callable[..., NDArray[np.float32]]


def random_poses(count: int, seed: int = 3) -> Poses:
    generator = np.random.default_rng(seed)
    rotations = Rotation.random(count, rng=generator).as_matrix()
    return Poses(rotations, generator.normal(size=(count, 2)))


def made_set(count: int = 6, box: int = 8) -> ParticleSet:
    generator = np.random.default_rng(0)
    voltage = np.where(np.arange(count) % 2, 200.0, 300.0)
    optics = Optics(
        voltage,
        np.full(count, 2.7),
        np.full(count, 0.1),
        generator.uniform(1e4, 2e4, count),
        generator.uniform(1e4, 2e4, count),
        generator.uniform(-90, 90, count),
        np.full(count, 30.0),
        np.full(count, 12.0),
    )
    return ParticleSet(
        ArraySource(generator.normal(size=(count, box, box)).astype(np.float32)),
        1.7,
        optics=optics,
        poses=random_poses(count),
        half_set=(np.arange(count) % 2 + 1).astype(np.int8),
        micrograph=np.array([f"m{row // 2}.mrc" for row in range(count)]),
        class_number=np.arange(1, count + 1, dtype=np.int32),
    )


def assert_same_metadata(a: ParticleSet, b: ParticleSet, tolerance: float = 1e-5) -> None:
    assert b.pixel_size_angstrom == pytest.approx(a.pixel_size_angstrom, rel=1e-6)
    assert a.optics is not None
    assert b.optics is not None
    for name, values in vars(a.optics).items():
        np.testing.assert_allclose(getattr(b.optics, name), values, rtol=1e-5, atol=1e-5, err_msg=name)
    assert a.poses is not None
    assert b.poses is not None
    np.testing.assert_allclose(b.poses.rotations, a.poses.rotations, atol=tolerance)
    np.testing.assert_allclose(b.poses.shifts_px, a.poses.shifts_px, atol=tolerance)
    for name in ("half_set", "micrograph", "class_number"):
        np.testing.assert_array_equal(getattr(b, name), getattr(a, name))


@pytest.mark.parametrize("suffix", [".star", ".cs"])
def test_made_set_comes_back_whole(tmp_path: Path, suffix: str) -> None:
    particles = made_set()
    write_mrc(tmp_path / "i.mrcs", particles.read(), 1.7)
    path = tmp_path / f"p{suffix}"
    write_particles(particles, path, images_path=tmp_path / "i.mrcs")
    again = open_particles(path)
    assert_same_metadata(particles, again)
    np.testing.assert_array_equal(again.read(), particles.read())


def test_star_to_cs_and_back(tmp_path: Path) -> None:
    particles = made_set()
    write_mrc(tmp_path / "i.mrcs", particles.read(), 1.7)
    write_particles(particles, tmp_path / "a.star", images_path=tmp_path / "i.mrcs")
    write_particles(open_particles(tmp_path / "a.star"), tmp_path / "b.cs")
    write_particles(open_particles(tmp_path / "b.cs"), tmp_path / "c.star")
    assert_same_metadata(particles, open_particles(tmp_path / "c.star"))


def test_a_set_made_around_a_file_names_it(tmp_path: Path) -> None:
    particles = made_set()
    write_mrc(tmp_path / "i.mrcs", particles.read(), 1.7)
    chosen = dataclasses.replace(particles, images=MrcSource.open(tmp_path / "i.mrcs")).subset(np.array([3, 1]))
    write_particles(chosen, tmp_path / "sub" / "p.star")
    np.testing.assert_array_equal(open_particles(tmp_path / "sub" / "p.star").read(), particles.read()[[3, 1]])


def test_images_that_are_in_no_file_need_a_path(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="images_path"):
        write_particles(made_set(), tmp_path / "p.star")
    with pytest.raises(UsageError, match=r"must end in \.star or \.cs"):
        write_particles(made_set(), tmp_path / "p.txt", images_path=tmp_path / "i.mrcs")


def test_real_table_keeps_every_untouched_character(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "particles/relion31_filament_5/relion31.star"
    particles = open_particles(source)
    write_particles(particles, tmp_path / "out.star")
    before, after = read_star(source), read_star(tmp_path / "out.star")
    assert list(after["particles"].columns) == list(before["particles"].columns)
    for column in before["particles"].columns:
        if column != "rlnImageName":
            assert (after["particles"][column] == before["particles"][column]).all(), column
    assert after["optics"].equals(before["optics"])
    np.testing.assert_array_equal(open_particles(tmp_path / "out.star").read(), particles.read())


def test_given_values_replace_only_their_columns(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "particles/relion31_filament_5/relion31.star"
    rows = np.array([4, 0, 2])
    chosen = open_particles(source).subset(rows)
    poses = random_poses(3)
    write_particles(
        chosen,
        tmp_path / "out.star",
        poses=poses,
        class_number=[3, 1, 2],
        half_set=[1, 2, 1],
        extra_columns={"clariceConfidence": np.array([0.5, 0.25, 1e-7])},
        drop_columns=["rlnCtfBfactor"],
    )
    before = read_star(source)["particles"].iloc[rows].reset_index(drop=True)
    after = read_star(tmp_path / "out.star")["particles"]
    changed = {
        *("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"),
        *("rlnClassNumber", "rlnRandomSubset", "rlnImageName"),
    }
    assert set(before.columns) - set(after.columns) == {"rlnCtfBfactor"}
    assert set(after.columns) - set(before.columns) == {"clariceConfidence"}
    for column in set(before.columns) - changed - {"rlnCtfBfactor"}:
        assert (after[column] == before[column]).all(), column
    again = open_particles(tmp_path / "out.star")
    assert again.poses is not None
    np.testing.assert_allclose(again.poses.rotations, poses.rotations, atol=1e-6)
    np.testing.assert_allclose(again.poses.shifts_px, poses.shifts_px, atol=1e-5)
    assert after["rlnClassNumber"].tolist() == ["3", "1", "2"]
    np.testing.assert_array_equal(again.read(), chosen.read())


def test_relion_30_is_written_as_31(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "formats/star/aspire_sample_particles_relion30.star"
    particles = open_particles(source, root=shared_data / "particles/aspire_sample_17")
    write_particles(particles, tmp_path / "new.star")
    blocks = read_star(tmp_path / "new.star")
    assert {"rlnVoltage", "rlnImagePixelSize", "rlnImageSize", "rlnOpticsGroupName"} <= set(blocks["optics"])
    old = read_star(source)["model_class_1"]
    new = blocks["particles"]
    assert "rlnOriginXAngst" in new
    assert "rlnMagnification" not in new
    kept = set(old.columns) & set(new.columns) - {"rlnImageName"}
    assert len(kept) > 15
    for column in kept:
        assert (old[column] == new[column]).all()
    again = open_particles(tmp_path / "new.star")
    assert again.optics is not None
    assert particles.optics is not None
    for field, values in vars(particles.optics).items():
        np.testing.assert_allclose(getattr(again.optics, field), values, err_msg=field)
    assert again.poses is not None
    assert particles.poses is not None
    np.testing.assert_allclose(again.poses.shifts_px, particles.poses.shifts_px, atol=1e-5)


def test_new_images_of_another_size_restate_the_optics(shared_data: Path, tmp_path: Path) -> None:
    particles = open_particles(shared_data / "particles/apoferritin/particles.star").subset(np.arange(5))
    small = ParticleSet(
        ArraySource(np.zeros((5, 32, 32), dtype=np.float32)),
        6.0,
        optics=particles.optics,
        table=particles.table,
    )
    write_mrc(tmp_path / "small.mrcs", small.read(), 6.0)
    write_particles(small, tmp_path / "small.star", images_path=tmp_path / "small.mrcs")
    again = open_particles(tmp_path / "small.star")
    assert (again.box, again.pixel_size_angstrom) == (32, 6.0)
    assert read_star(tmp_path / "small.star")["particles"]["rlnImageName"][4] == "000005@small.mrcs"


def test_lengths_that_differ_are_refused(shared_data: Path, tmp_path: Path) -> None:
    particles = open_particles(shared_data / "particles/relion31_filament_5/relion31.star")
    for wrong in ({"class_number": [1, 2]}, {"poses": random_poses(4)}, {"extra_columns": {"x": [1]}}):
        with pytest.raises(OutputError):
            write_particles(particles, tmp_path / "out.star", **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_names_follow_the_images_to_another_folder(tmp_path: Path, make_stack: StackMaker) -> None:
    images = make_stack("a.mrcs", 3)
    (tmp_path / "p.star").write_text("data_\nloop_\n_rlnImageName\n_rlnImagePixelSize\n2@a.mrcs 2\n1@a.mrcs 2\n")
    particles = open_particles(tmp_path / "p.star")
    write_particles(particles, tmp_path / "same.star")
    assert read_star(tmp_path / "same.star")["particles"]["rlnImageName"].tolist() == ["2@a.mrcs", "1@a.mrcs"]
    shutil.move(tmp_path / "same.star", tmp_path / "again.star")
    outside = tmp_path.parent / f"{tmp_path.name}-outside" / "p.star"
    write_particles(particles, outside)
    np.testing.assert_array_equal(open_particles(outside).read(), images[[1, 0]])


@pytest.mark.skipif(shutil.which("relion_star_handler") is None, reason="RELION is not installed")
def test_relion_reads_what_we_write(tmp_path: Path) -> None:
    particles = made_set()
    write_mrc(tmp_path / "i.mrcs", particles.read(), 1.7)
    write_particles(particles, tmp_path / "p.star", images_path=tmp_path / "i.mrcs")
    command = ["relion_star_handler", "--i", "p.star", "--o", "q.star", "--select", "rlnClassNumber"]
    limits = ["--minval", "2", "--maxval", "4"]
    subprocess.run([*command, *limits], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    again = open_particles(tmp_path / "q.star")
    assert_same_metadata(particles.subset(np.array([1, 2, 3])), again, tolerance=1e-4)


def test_the_particle_block_gets_the_name_relion_looks_for(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    for block in ("", "images", "model_class_1", "Particles"):
        (tmp_path / "p.star").write_text(f"data_{block}\nloop_\n_rlnImageName\n_rlnImagePixelSize\n2@a.mrcs 2\n")
        write_particles(open_particles(tmp_path / "p.star"), tmp_path / "out.star")
        assert list(read_star(tmp_path / "out.star")) == ["optics", "particles"]
    # Where another block has that name, neither may be lost.
    text = "data_particles\nloop_\n_rlnMystery\nx\n\n"
    text += "data_images\nloop_\n_rlnImageName\n_rlnImagePixelSize\n2@a.mrcs 2\n"
    (tmp_path / "p.star").write_text(text)
    write_particles(open_particles(tmp_path / "p.star"), tmp_path / "out.star")
    assert set(read_star(tmp_path / "out.star")) == {"optics", "particles", "images"}
    assert len(open_particles(tmp_path / "out.star")) == 1


def grouped(folder: Path, first: str, second: str) -> Path:
    optics = f"data_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 {first}\n2 {second}\n\n"
    rows = "data_particles\nloop_\n_rlnImageName\n_rlnOpticsGroup\n1@a.mrcs 1\n2@a.mrcs 2\n"
    (folder / "p.star").write_text(optics + rows)
    return folder / "p.star"


def test_sizes_calibrated_a_little_apart_are_kept(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    source = grouped(tmp_path, "0.8300", "0.8305")
    write_particles(open_particles(source), tmp_path / "out.star")
    assert read_star(tmp_path / "out.star")["optics"]["rlnImagePixelSize"].tolist() == ["0.8300", "0.8305"]
    write_particles(open_particles(source, pixel_size_angstrom=0.8303), tmp_path / "out.star")
    stated = read_star(tmp_path / "out.star")["optics"]["rlnImagePixelSize"].astype(float)
    np.testing.assert_allclose(stated, 0.8303)


def test_sizes_of_cryosparc_groups_are_kept_alike(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    write_particles(open_particles(grouped(tmp_path, "0.83", "0.83")), tmp_path / "a.cs")
    rows = np.load(tmp_path / "a.cs")
    rows["blob/psize_A"] = [0.83, 0.8305]
    write_cs(tmp_path / "b.cs", rows)
    particles = open_particles(tmp_path / "b.cs")
    write_particles(particles, tmp_path / "c.cs", poses=random_poses(2))
    again = np.load(tmp_path / "c.cs")
    np.testing.assert_allclose(again["blob/psize_A"], [0.83, 0.8305], rtol=1e-6)
    np.testing.assert_allclose(again["alignments3D/psize_A"], 0.83, rtol=1e-6)
    write_particles(dataclasses.replace(particles, pixel_size_angstrom=1.66), tmp_path / "d.cs")
    np.testing.assert_allclose(np.load(tmp_path / "d.cs")["blob/psize_A"], 1.66, rtol=1e-6)


def test_origins_in_pixels_are_those_of_the_images_the_table_was_made_for(
    tmp_path: Path, make_stack: StackMaker
) -> None:
    """Images binned by two since, which `--pixel-size` says: reading and writing shift them alike."""
    make_stack("a.mrcs", 2)
    names = "_rlnImageName\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n_rlnOriginX\n_rlnOriginY\n_rlnPixelSize"
    (tmp_path / "p.star").write_text(f"data_images\nloop_\n{names}\n1@a.mrcs 1 2 3 4 -2 1.0\n")
    particles = open_particles(tmp_path / "p.star", pixel_size_angstrom=2.0)
    assert particles.poses is not None
    np.testing.assert_allclose(particles.poses.shifts_px, [[2.0, -1.0]])
    write_particles(particles, tmp_path / "out.star")
    rows = read_star(tmp_path / "out.star")["particles"]
    assert (float(rows["rlnOriginXAngst"][0]), float(rows["rlnOriginYAngst"][0])) == (4.0, -2.0)
    again = open_particles(tmp_path / "out.star")
    assert again.poses is not None
    np.testing.assert_allclose(again.poses.shifts_px, [[2.0, -1.0]])
