"""Opening stacks: every dialect's columns, several files, several groups, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from clarice.core.errors import InputError, UsageError
from clarice.io.refusals import ImagesMissingError, NotParticlesError, OptionNeededError
from clarice.io.stack import open_particles

StackMaker = Callable[..., NDArray[np.float32]]

OPTICS = """data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
1 one 300 2.7 0.1 {first}
4 four 200 1.4 0.07 {second}

"""
PARTICLES = """data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnAngleRot #6
_rlnAngleTilt #7
_rlnAnglePsi #8
_rlnOriginXAngst #9
_rlnOriginYAngst #10
_rlnRandomSubset #11
_rlnMicrographName #12
_rlnMystery #13
000003@b.mrcs 4 20000 19000 10 10 20 30 4.0 -2.0 2 m2.mrc keep
000001@a.mrcs 1 15000 14000 20 40 50 60 0.0 0.0 1 m1.mrc me
000002@b.mrcs 4 21000 20000 30 70 80 90 1.0 1.0 1 m2.mrc please
"""
RELION30 = """data_images

loop_
_rlnImageName
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle
_rlnMagnification
_rlnDetectorPixelSize
_rlnOriginX
_rlnOriginY
_rlnAngleRot
_rlnAngleTilt
_rlnAnglePsi
1@a.mrcs 300 2.7 0.1 15000 14000 20 40000 8.0 1.5 -0.5 10 20 30
2@a.mrcs 300 2.7 0.1 15000 14000 20 40000 8.0 0 0 40 50 60
"""


def test_optics_groups_and_several_files(tmp_path: Path, make_stack: StackMaker) -> None:
    a, b = make_stack("a.mrcs", 2), make_stack("b.mrcs", 4)
    (tmp_path / "p.star").write_text(OPTICS.format(first=2.0, second=2.0) + PARTICLES)
    particles = open_particles(tmp_path / "p.star")
    assert (len(particles), particles.box, particles.pixel_size_angstrom) == (3, 8, 2.0)
    np.testing.assert_array_equal(particles.read(), np.stack([b[2], a[0], b[1]]))
    np.testing.assert_array_equal(particles.subset(np.array([2, 0])).read(), np.stack([b[1], b[2]]))
    assert particles.optics is not None
    assert particles.optics.voltage_kv.tolist() == [200, 300, 200]
    assert particles.optics.amplitude_contrast.tolist() == [0.07, 0.1, 0.07]
    assert particles.optics.defocus_u_angstrom.tolist() == [20000, 15000, 21000]
    assert particles.optics.phase_shift_deg.tolist() == [0, 0, 0]
    assert particles.poses is not None
    np.testing.assert_allclose(particles.poses.shifts_px[0], [2.0, -1.0])
    assert particles.half_set is not None
    assert particles.half_set.tolist() == [2, 1, 1]
    assert particles.micrograph is not None
    assert particles.micrograph.tolist() == ["m2.mrc", "m1.mrc", "m2.mrc"]


def test_rotation_matrices_are_relions(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    (tmp_path / "p.star").write_text(RELION30)
    poses = open_particles(tmp_path / "p.star").poses
    assert poses is not None

    def about_z(angle: float) -> Rotation:
        return Rotation.from_rotvec([0, 0, np.deg2rad(angle)])

    expected = about_z(-30) * Rotation.from_rotvec([0, np.deg2rad(-20), 0]) * about_z(-10)
    np.testing.assert_allclose(poses.rotations[0], expected.as_matrix(), atol=1e-12)


def test_relion_30_columns(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    (tmp_path / "p.star").write_text(RELION30)
    particles = open_particles(tmp_path / "p.star")
    assert particles.pixel_size_angstrom == pytest.approx(2.0)
    assert particles.poses is not None
    np.testing.assert_allclose(particles.poses.shifts_px[0], [1.5, -0.5])


def test_groups_of_different_pixel_size_need_a_choice(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    b = make_stack("b.mrcs", 4)
    (tmp_path / "p.star").write_text(OPTICS.format(first=2.0, second=2.1) + PARTICLES)
    with pytest.raises(OptionNeededError, match=r"1 has 2 Å, 4 has 2.1 Å.*--optics-group N"):
        open_particles(tmp_path / "p.star")
    chosen = open_particles(tmp_path / "p.star", optics_group=4)
    assert chosen.pixel_size_angstrom == pytest.approx(2.1)
    np.testing.assert_array_equal(chosen.read(), b[[2, 1]])
    with pytest.raises(UsageError, match=r"--optics-group 9: no particle of .* belongs to it, only to 1, 4"):
        open_particles(tmp_path / "p.star", optics_group=9)


def test_what_an_option_can_mend_is_told_by_the_status_of_options() -> None:
    assert OptionNeededError("x").exit_code == UsageError("x").exit_code == 2


@pytest.mark.parametrize("name", ["p.star", "p.cs", "p.mrcs"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name} is empty \(0 bytes\)"):
        open_particles(tmp_path / name)


@pytest.mark.parametrize(
    ("block", "column", "said"),
    [
        ("particles", "rlnMicrographName", "its block data_particles has no column _rlnImageName"),
        ("", "rlnRandomSubset", "its block data_ has no column _rlnImageName"),
        ("micrographs", "rlnMicrographName", "no column _rlnImageName, and looks like a table of micrographs"),
        ("", "rlnCoordinateX", "it is a table of picked coordinates"),
        ("", "rlnVoltage", r"it has no column _rlnImageName in its blocks \(data_\)"),
    ],
)
def test_a_table_without_image_names_is_told_what_it_lacks(tmp_path: Path, block: str, column: str, said: str) -> None:
    (tmp_path / "p.star").write_text(f"data_{block}\nloop_\n_{column}\n_rlnMicrographName2\n1 2\n")
    with pytest.raises(NotParticlesError, match=said):
        open_particles(tmp_path / "p.star")


def test_missing_pixel_size_names_column_and_flag(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    (tmp_path / "p.star").write_text("data_\nloop_\n_rlnImageName\n1@a.mrcs\n")
    with pytest.raises(OptionNeededError, match=r"_rlnImagePixelSize.*--pixel-size"):
        open_particles(tmp_path / "p.star")
    assert open_particles(tmp_path / "p.star", pixel_size_angstrom=3.0).pixel_size_angstrom == 3.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("000002@b.mrcs", "000009@b.mrcs", "row 3 asks for image 9 of .*b.mrcs, which has 4"),
        ("000002@b.mrcs", "000002@lost.mrcs", "lost.mrcs was not found"),
        ("b.mrcs 4 20000", "b.mrcs 7 20000", "row 1 belongs to optics group 7"),
        ("15000 14000", "x 14000", "row 2 of column _rlnDefocusU is 'x'"),
        ("15000 14000", "nan 14000", "row 2 of column _rlnDefocusU is 'nan'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, make_stack: StackMaker, old: str, new: str, message: str) -> None:
    make_stack("a.mrcs", 2)
    make_stack("b.mrcs", 4)
    (tmp_path / "p.star").write_text(OPTICS.format(first=2.0, second=2.0) + PARTICLES.replace(old, new))
    with pytest.raises(InputError, match=message):
        open_particles(tmp_path / "p.star")


def test_boxes_must_agree(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 2)
    make_stack("b.mrcs", 4, box=9)
    (tmp_path / "p.star").write_text(OPTICS.format(first=2.0, second=2.0) + PARTICLES)
    with pytest.raises(InputError, match=r"differ in box, 8 px .* and 9 px"):
        open_particles(tmp_path / "p.star")


def test_table_of_another_binning_is_refused(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("a.mrcs", 1)
    text = "data_\nloop_\n_rlnImageName\n_rlnImagePixelSize\n_rlnImageSize\n1@a.mrcs 1.0 16\n"
    (tmp_path / "p.star").write_text(text)
    with pytest.raises(OptionNeededError, match=r"states images of 16 pixels.* hold 8"):
        open_particles(tmp_path / "p.star")


def test_bare_stacks_and_single_images(tmp_path: Path, make_stack: StackMaker) -> None:
    images = make_stack("s.mrcs", 8)
    assert open_particles(tmp_path / "s.mrcs").pixel_size_angstrom == pytest.approx(2.0)
    np.testing.assert_array_equal(open_particles(tmp_path / "s.mrcs").read(), images)
    make_stack("one.mrc", 1)
    assert len(open_particles(tmp_path / "one.mrc")) == 1


def test_what_is_no_stack_is_named(tmp_path: Path, shared_data: Path) -> None:
    expected = {
        "formats/star/relion_ref_it002_model.star": "RELION model file",
        "formats/star/mtf_k2_300kV.star": "modulation transfer function",
        "formats/star/localrec_micrographs.star": "table of micrographs",
        "formats/bdb/TcdA1-0187_frames_ptcls.bdb": "Berkeley database",
        "formats/xmipp/smallStack.stk": "SPIDER",
        "formats/xmipp/smallStack.hed": "Imagic",
        "formats/fsc/EMPIAR-10024_iter0_fsc.xml": "FSC curve",
        "formats/box/sample.box": "BOX",
        "formats/cs/4k_dataset.cs": "without images",
        "particles/trpv1_small_10/trpv1_volume.mrc": "a map of 48 × 48 × 48",
        "particles/bioem_tutorial/Model.pdb": "atomic model",
    }
    for name, word in expected.items():
        with pytest.raises(NotParticlesError, match=word):
            open_particles(shared_data / name)


def test_options_that_do_not_apply_are_refused(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("s.mrcs", 2)
    with pytest.raises(UsageError, match="--passthrough"):
        open_particles(tmp_path / "s.mrcs", passthrough="x.cs")
    with pytest.raises(UsageError, match="--optics-group"):
        open_particles(tmp_path / "s.mrcs", optics_group=1)
    with pytest.raises(UsageError, match="--pixel-size"):
        open_particles(tmp_path / "s.mrcs", pixel_size_angstrom=-1)
    with pytest.raises(InputError, match="does not exist"):
        open_particles(tmp_path / "none.star")


def test_reading_is_lazy(tmp_path: Path, make_stack: StackMaker) -> None:
    make_stack("s.mrcs", 4)
    particles = open_particles(tmp_path / "s.mrcs")
    (tmp_path / "s.mrcs").unlink()
    with pytest.raises(InputError, match="changed or vanished"):
        particles.read()


def test_real_stacks_open(shared_data: Path) -> None:
    counts = {
        "apoferritin/particles.star": (1620, 64),
        "empiar_10076_7/empiar_10076_7.star": (7, 320),
        "empiar_10076_7/empiar_10076_7.cs": (7, 320),
        "sta_ribosome_tilts/sta_testing_bin8.star": (219, 64),
        "relion31_filament_5/relion31.star": (5, 256),
        "relion31_filament_5/relion31.v2.star": (5, 256),
    }
    for name, expected in counts.items():
        particles = open_particles(shared_data / "particles" / name)
        assert (len(particles), particles.box) == expected
        assert np.isfinite(particles.read(np.array([0, len(particles) - 1]))).all()
    with pytest.raises(ImagesMissingError, match="lists 6496 particles"):
        open_particles(shared_data / "formats/star/SOD_images.star.gz")
    found = open_particles(
        shared_data / "formats/star/relion_proj_batch_pfac3.star", root=shared_data / "formats/aspire_ref"
    )
    assert len(found) == 24
    sample = shared_data / "formats/star/aspire_sample_particles_relion30.star"
    assert len(open_particles(sample, root=shared_data / "particles/aspire_sample_17")) == 17
