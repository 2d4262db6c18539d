"""cryoSPARC datasets: conventions, passthrough files, every field kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cryosparc.dataset import Dataset
from numpy.typing import NDArray
from scipy.linalg import expm

from clarice.core.errors import InputError
from clarice.core.particles import Poses
from clarice.io.cryosparc import CryosparcTable, read_cs, read_fields, with_fields
from clarice.io.mrc import write_mrc
from clarice.io.refusals import OptionNeededError
from clarice.io.stack import open_particles, write_particles


def dataset(count: int = 4) -> NDArray[np.void]:
    rows = np.zeros(
        count,
        dtype=[
            ("uid", "<u8"),
            ("blob/path", "S12"),
            ("blob/idx", "<u4"),
            ("blob/shape", "<u4", (2,)),
            ("blob/psize_A", "<f4"),
            ("blob/sign", "<f4"),
            ("alignments3D/split", "<u4"),
            ("alignments3D/shift", "<f4", (2,)),
            ("alignments3D/pose", "<f4", (3,)),
            ("alignments3D/psize_A", "<f4"),
            ("mystery/field", "<i2", (3,)),
        ],
    )
    generator = np.random.default_rng(2)
    rows["uid"] = np.array([70, 10, 40, 20])[:count]
    rows["blob/path"] = b">s.mrcs"
    rows["blob/idx"] = np.arange(count)[::-1]
    rows["blob/psize_A"] = 1.5
    rows["alignments3D/split"] = [0, 1, 1, 0][:count]
    rows["alignments3D/shift"] = generator.normal(size=(count, 2))
    rows["alignments3D/pose"] = generator.normal(size=(count, 3))
    rows["alignments3D/psize_A"] = 3.0
    rows["mystery/field"] = np.arange(3 * count).reshape(count, 3)
    return rows


def written(tmp_path: Path) -> Path:
    write_mrc(tmp_path / "s.mrcs", np.arange(4 * 64).reshape(4, 8, 8), 1.5)
    with (tmp_path / "p.cs").open("wb") as file:
        np.save(file, dataset())
    return tmp_path / "p.cs"


def test_fields_and_pose_convention(tmp_path: Path) -> None:
    particles = open_particles(written(tmp_path))
    rows = dataset()
    np.testing.assert_array_equal(particles.read()[:, 0, 0], [192, 128, 64, 0])
    assert particles.half_set is not None
    assert particles.half_set.tolist() == [1, 2, 2, 1]
    assert particles.poses is not None
    for row, vector in enumerate(rows["alignments3D/pose"].astype(float)):
        x, y, z = vector
        generator = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        np.testing.assert_allclose(particles.poses.rotations[row], expm(generator).T, atol=1e-6)
    # Shifts are in pixels of 3 Å, images have pixels of 1.5 Å.
    np.testing.assert_allclose(particles.poses.shifts_px, 2 * rows["alignments3D/shift"], rtol=1e-6)


def test_the_same_particles_as_star_and_cs_have_the_same_optics(shared_data: Path) -> None:
    folder = shared_data / "particles/empiar_10076_7"
    star, cs = open_particles(folder / "empiar_10076_7.star"), open_particles(folder / "empiar_10076_7.cs")
    assert star.optics is not None
    assert cs.optics is not None
    for name, values in vars(star.optics).items():
        np.testing.assert_allclose(getattr(cs.optics, name), values, rtol=1e-5, atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(star.read(), cs.read())


def test_round_trip_keeps_every_field(tmp_path: Path) -> None:
    particles = open_particles(written(tmp_path)).subset(np.array([2, 0]))
    poses = Poses(np.stack([np.eye(3), np.diag([1.0, -1.0, -1.0])]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    write_particles(particles, tmp_path / "out.cs", poses=poses, half_set=[2, 1], class_number=[5, 6])
    again = read_cs(tmp_path / "out.cs")
    before = dataset()[[2, 0]]
    assert again.rows["uid"].tolist() == [40, 70]
    np.testing.assert_array_equal(again.rows["mystery/field"], before["mystery/field"])
    np.testing.assert_array_equal(again.rows["blob/idx"], before["blob/idx"])
    assert again.rows["alignments3D/split"].tolist() == [1, 0]
    assert again.rows["alignments2D/class"].tolist() == [4, 5]
    reopened = open_particles(tmp_path / "out.cs")
    assert reopened.poses is not None
    np.testing.assert_allclose(reopened.poses.rotations, poses.rotations, atol=1e-6)
    np.testing.assert_allclose(reopened.poses.shifts_px, poses.shifts_px, atol=1e-6)


def test_passthrough_is_joined_by_uid(tmp_path: Path) -> None:
    path = written(tmp_path)
    extra = np.zeros(5, dtype=[("uid", "<u8"), ("ctf/df1_A", "<f4"), ("blob/idx", "<u4")])
    extra["uid"] = [10, 20, 40, 70, 99]
    extra["ctf/df1_A"] = [1, 2, 4, 7, 9]
    extra["blob/idx"] = 77
    with (tmp_path / "pass.cs").open("wb") as file:
        np.save(file, extra)
    joined = read_cs(path, [tmp_path / "pass.cs"])
    assert joined.rows["ctf/df1_A"].tolist() == [7, 1, 4, 2]
    assert joined.rows["blob/idx"].tolist() == [3, 2, 1, 0]
    with (tmp_path / "short.cs").open("wb") as file:
        np.save(file, extra[:2])
    with pytest.raises(InputError, match=r"the uid 70 of row 1 of .*p.cs is missing"):
        read_cs(path, [tmp_path / "short.cs"])


def test_damage_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    with pytest.raises(InputError, match="is truncated: 4 rows need"):
        read_cs(path)
    path.write_bytes(b"\x94CSDAT" + raw)
    with pytest.raises(InputError, match="compressed format"):
        read_cs(path)
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match="not a cryoSPARC dataset"):
        read_cs(path)
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        read_cs(tmp_path / "o.npy")


def test_differing_pixel_sizes_need_a_choice(tmp_path: Path) -> None:
    rows = with_fields(dataset(), {"ctf/exp_group_id": np.array([3, 3, 5, 5], dtype=np.uint32)})
    rows["blob/psize_A"] = [1.5, 1.5, 1.6, 1.6]
    written(tmp_path)
    with (tmp_path / "p.cs").open("wb") as file:
        np.save(file, rows)
    with pytest.raises(OptionNeededError, match="--optics-group"):
        open_particles(tmp_path / "p.cs")
    assert len(open_particles(tmp_path / "p.cs", optics_group=5)) == 2


def test_real_dataset_has_whole_poses(shared_data: Path) -> None:
    table = read_cs(shared_data / "formats/cs/cryosparc_P12_J24_001_particles.cs")
    fields = read_fields(table, 2.95)
    assert len(table) == 2019
    assert set(fields["half_set"].tolist()) == {1, 2}
    np.testing.assert_allclose(np.linalg.det(fields["poses"].rotations), 1)
    np.testing.assert_allclose(fields["poses"].shifts_px, table.rows["alignments3D/shift"], rtol=1e-6)


def test_cryosparc_tools_reads_what_we_write(tmp_path: Path) -> None:
    write_particles(open_particles(written(tmp_path)), tmp_path / "out.cs", half_set=[1, 1, 2, 2])
    theirs = Dataset.load(str(tmp_path / "out.cs"))
    ours = read_cs(tmp_path / "out.cs")
    assert isinstance(ours, CryosparcTable)
    assert set(theirs.fields()) == set(ours.fields)
    for name in ours.fields:
        if ours.rows[name].dtype.kind != "S":
            np.testing.assert_array_equal(np.asarray(theirs[name]), ours.rows[name])
