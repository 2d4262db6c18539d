"""`clarice abinitio` and `clarice refine` on a small stack: files, poses, and refusals that leave nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.cli.map_commands import BOX, COUNT, SmallStack, make_stack, refusal, run

from clarice.abinitio import pose_assignment, refinement
from clarice.abinitio.projection_matching import NO_LIKELIER_THAN_NOISE
from clarice.cli.refine import FOREIGN_MAP, WRITES
from clarice.core.errors import InputError, OutputError, ResourceError, UsageError
from clarice.geometry.so3 import angle_between_deg, euler_to_matrix
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.stack import open_particles
from clarice.io.star import read_star
from clarice.metrics.orientation import orientation_errors
from clarice.metrics.registration import apply_superposition, register, resample
from clarice.metrics.shells import fsc
from clarice.pipeline import resources
from clarice.pipeline.first_map import OWN_PARTICLES_NO_LIKELIER

TURN_DEG = np.array([[30.0, 50.0, 70.0]])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> SmallStack:
    return make_stack(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def first(stack: SmallStack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Output folder of `clarice abinitio`, and what it printed."""
    folder = tmp_path_factory.mktemp("first") / "out"
    return folder, run(
        *("abinitio", stack.table, "-o", folder, "--method", "projection-matching"),
        *("--contrast", "dark", "--starts", "2", "--max-shift", "15"),
    )


@pytest.fixture(scope="module")
def coarse_map(stack: SmallStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true structure in other grey values, turned, and in a box and pixels of its own."""
    path = tmp_path_factory.mktemp("map") / "coarse.mrc"
    turned = apply_superposition(stack.simulated.volume, euler_to_matrix(TURN_DEG)[0], np.zeros(3), False)
    write_mrc(path, 30 * resample(turned, 24, BOX / 24), stack.pixel_size_angstrom * BOX / 24, is_volume=True)
    return path


@pytest.fixture(scope="module")
def refined(stack: SmallStack, coarse_map: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Output folder of `clarice refine`, and what it printed."""
    folder = tmp_path_factory.mktemp("refined") / "out"
    options = ("--contrast", "dark", "--iterations", "3", "--seed", "1", "--max-shift", "12")
    return folder, run("refine", stack.table, "--map", coarse_map, "-o", folder, *options)


def turned_from_map(stack: SmallStack) -> np.ndarray:
    """The true rotations, as against the turned map."""
    return stack.simulated.poses.rotations @ euler_to_matrix(TURN_DEG)[0].T


def test_abinitio_writes_a_map_in_both_hands_and_poses(first: tuple[Path, str], stack: SmallStack) -> None:
    folder, said = first
    names = {"abinitio.mrc", "abinitio_mirror.mrc", "particles.star", "abinitio.json"}
    assert {path.name for path in folder.iterdir()} == names
    volume, pixel = read_mrc(folder / "abinitio.mrc")
    mirror = read_mrc(folder / "abinitio_mirror.mrc")[0]
    assert volume.shape == (BOX, BOX, BOX)
    assert pixel == pytest.approx(stack.pixel_size_angstrom, rel=1e-5)
    np.testing.assert_array_equal(mirror[:, :, 1:], volume[:, :, :0:-1])
    record = json.loads((folder / "abinitio.json").read_text())
    assert [start["seed"] for start in record["starts"]] == [0, 1]
    assert record["starts"][record["chosen"]]["log_likelihood"] > 10
    assert f"start {record['chosen'] + 1} of 2" in said
    assert "warning: particles held out" not in said


def test_poses_of_abinitio_are_those_of_its_map(first: tuple[Path, str], tmp_path: Path) -> None:
    """The map that the written poses make is the one that was written, hand, shifts and all."""
    run("reconstruct", first[0] / "particles.star", "-o", tmp_path, "--contrast", "dark")
    curve = fsc(read_mrc(tmp_path / "map.mrc")[0], read_mrc(first[0] / "abinitio.mrc")[0])
    assert curve[1:7].min() > 0.8


@pytest.fixture(scope="module")
def by_lines(stack: SmallStack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Output folder of `clarice abinitio --method common-lines`, and what it printed."""
    folder = tmp_path_factory.mktemp("lines") / "out"
    options = ("--method", "common-lines", "--denoiser", "covariance-wiener", "--images", "120", "--starts", "2")
    return folder, run("abinitio", stack.table, "-o", folder, "--contrast", "dark", "--max-shift", "15", *options)


def test_common_lines_find_the_structure(by_lines: tuple[Path, str], stack: SmallStack) -> None:
    folder, said = by_lines
    names = {"abinitio.mrc", "abinitio_mirror.mrc", "particles.star", "abinitio.json"}
    assert {path.name for path in folder.iterdir()} == names
    record = json.loads((folder / "abinitio.json").read_text())
    assert (record["method"], record["denoiser"]) == ("common-lines", "covariance-wiener")
    assert len(record["laid_by_lines"]) == 120
    assert record["particles_in_map"] == COUNT
    assert record["log_likelihood"] > 10
    assert record["judged_by"] == "its own particles"
    assert f"{record['agreeing_lines']:.0%} of their lines agree" in said
    assert "warning: particles held out" not in said
    registered = register(read_mrc(folder / "abinitio.mrc")[0], stack.simulated.volume)
    assert fsc(registered.volume, stack.simulated.volume)[1:8].min() > 0.5
    particles = open_particles(folder / "particles.star")
    assert particles.poses is not None
    errors = orientation_errors(particles.poses.rotations, stack.simulated.poses.rotations)
    assert np.median(errors.angle_deg) < 8, "all particles are laid on the map, not only those it was made of"


@pytest.mark.parametrize(("images", "warning"), [(30, NO_LIKELIER_THAN_NOISE), (COUNT, OWN_PARTICLES_NO_LIKELIER)])
def test_a_map_of_noise_is_doubted(tmp_path: Path, images: int, warning: str) -> None:
    """By particles that it was not made of, and by its own where there are no others."""
    noise = make_stack(tmp_path / "noise", snr=1e-5)
    options = ("--method", "common-lines", "--denoiser", "covariance-wiener", "--images", str(images), "--starts", "1")
    said = run("abinitio", noise.table, "-o", tmp_path / "out", "--contrast", "dark", *options)
    assert f"warning: {warning}" in said


def test_of_both_maps_the_likelier_is_kept(stack: SmallStack, tmp_path: Path) -> None:
    options = ("--denoiser", "covariance-wiener", "--images", "60", "--starts", "1")
    said = run("abinitio", stack.table, "-o", tmp_path, "--contrast", "dark", "--max-shift", "15", *options)
    record = json.loads((tmp_path / "abinitio.json").read_text())
    assert {record["method"], record["other"]["method"]} == {"common-lines", "projection-matching"}
    assert record["log_likelihood_compared"] >= record["other"]["log_likelihood_compared"]
    assert f"{record['method']}, by log-likelihood" in said
    registered = register(read_mrc(tmp_path / "abinitio.mrc")[0], stack.simulated.volume)
    assert fsc(registered.volume, stack.simulated.volume)[1:8].min() > 0.5


def test_options_of_the_other_method_are_refused(stack: SmallStack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = ("abinitio", stack.table, "--method", "common-lines")
    matching = ("abinitio", stack.table, "--method", "projection-matching")
    assert "--images is for" in refusal(UsageError, out, *matching, "--images", "100")
    assert "--denoiser is for" in refusal(UsageError, out, *matching, "--denoiser", "wiener")
    assert "C0" in refusal(UsageError, out, *lines, "--symmetry", "C0")
    assert "no-such" in refusal(UsageError, out, *lines, "--denoiser", "no-such")
    assert "--classes and --junk are for" in refusal(UsageError, out, *lines, "--classes", "2")
    for sorting in (("--classes", "2"), ("--junk", "0.2")):
        for unused in (("--images", "100"), ("--denoiser", "wiener")):
            said = refusal(UsageError, out, "abinitio", stack.table, *sorting, *unused)
            assert f"{unused[0]} is for the map of one structure" in said
            assert "leave out --classes and --junk" in said
    assert "--junk 1 must be" in refusal(UsageError, out, "abinitio", stack.table, "--junk", "1")


def test_tables_keep_every_column_of_the_input(
    first: tuple[Path, str], refined: tuple[Path, str], stack: SmallStack
) -> None:
    before = read_star(stack.table)["particles"]
    for folder in (first[0], refined[0]):
        after = read_star(folder / "particles.star")["particles"]
        assert len(after) == COUNT
        for column in set(before.columns) - {"rlnImageName"}:
            assert after[column].tolist() == before[column].tolist()
        assert after["rlnMaxValueProbDistribution"].astype(float).between(0, 1.001).all()
        np.testing.assert_array_equal(
            open_particles(folder / "particles.star").read(), open_particles(stack.table).read()
        )


def test_refine_writes_maps_half_maps_and_their_fsc(refined: tuple[Path, str], stack: SmallStack) -> None:
    folder, said = refined
    maps = {"map", "map_mirror", "half1", "half2", "mask"}
    assert {path.stem for path in folder.glob("*.mrc")} == maps
    assert {path.name for path in folder.iterdir()} == set(WRITES)
    pixel = stack.pixel_size_angstrom
    for name in maps:
        values, stated = read_mrc(folder / f"{name}.mrc")
        assert values.shape == (BOX, BOX, BOX)
        assert stated == pytest.approx(pixel, rel=1e-5)
    registered = register(read_mrc(folder / "map.mrc")[0], stack.simulated.volume)
    assert registered.correlation > 0.93
    assert not registered.mirrored
    assert fsc(registered.volume, stack.simulated.volume)[1:8].min() > 0.9
    record = json.loads((folder / "fsc.json").read_text())
    resolution = record["resolution_angstrom"]["0.143"]
    assert 2 * pixel <= resolution < 4 * pixel
    assert resolution == pytest.approx(record["finest_angstrom"])  # halves agree to the last shell measured
    assert f"{resolution:.1f} Å, the last shell measured, at FSC 0.143 (Nyquist {2 * pixel:.1f} Å)" in said
    assert FOREIGN_MAP not in said


def test_refined_poses_and_half_sets_can_be_read(refined: tuple[Path, str], stack: SmallStack) -> None:
    folder, _ = refined
    particles = open_particles(folder / "particles.star")
    assert particles.half_set is not None
    assert set(particles.half_set.tolist()) == {1, 2}
    micrograph = np.asarray(particles.micrograph)
    assert all(len(set(particles.half_set[micrograph == name])) == 1 for name in np.unique(micrograph))
    assert particles.poses is not None
    error = angle_between_deg(particles.poses.rotations, turned_from_map(stack))
    assert np.median(error) < 6


def test_poses_are_those_of_the_raw_images_whatever_the_working_box(
    stack: SmallStack, coarse_map: Path, tmp_path: Path
) -> None:
    """Shifts found in 24 px are written for 32 px."""
    run("refine", stack.table, "--map", coarse_map, "-o", tmp_path, "--contrast", "dark",
        "--working-box", "24", "--iterations", "2", "--max-shift", "12")  # fmt: skip
    assert read_mrc(tmp_path / "map.mrc")[1] == pytest.approx(stack.pixel_size_angstrom * 32 / 24, rel=1e-5)
    poses, true = open_particles(tmp_path / "particles.star").poses, stack.simulated.poses
    assert poses is not None
    assert np.median(np.linalg.norm(poses.shifts_px - true.shifts_px, axis=1)) < 0.5
    slope = np.polyfit(true.shifts_px.ravel(), poses.shifts_px.ravel(), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.12)
    assert np.median(angle_between_deg(poses.rotations, turned_from_map(stack))) < 8


def test_a_map_of_something_else_is_told(stack: SmallStack, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixel = stack.pixel_size_angstrom
    noise = rng.standard_normal((BOX, BOX, BOX)).astype(np.float32)
    write_mrc(tmp_path / "noise.mrc", noise, pixel, is_volume=True)
    said = run("refine", stack.table, "--map", tmp_path / "noise.mrc", "-o", tmp_path / "out", "--contrast", "dark",
               "--iterations", "1")  # fmt: skip
    assert FOREIGN_MAP in said


@pytest.mark.parametrize("command", ["first", "refined"])
def test_time_memory_and_disk_are_foretold_in_the_words_of_a_run(command: str, request: pytest.FixtureRequest) -> None:
    _, said = request.getfixturevalue(command)
    task = {"first": "the first map", "refined": "the refinement"}[command]
    assert re.match(rf"{task}: about \d+ s, \d+ MB of memory, \d+ MB of disk\n", said)


def test_too_little_memory_is_told_before_the_work(
    stack: SmallStack, coarse_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "memory_within_reach_mb", lambda: 300.0)
    for words, task in ((("abinitio",), "the first map"), (("refine", "--map", coarse_map), "the refinement")):
        sentence = refusal(ResourceError, tmp_path / "out", words[0], stack.table, *words[1:])
        assert re.match(rf"{task} needs about .* of memory and 300 MB can be had", sentence)
    assert not (tmp_path / "out").exists()


def test_refusals_are_one_sentence_and_leave_nothing(
    stack: SmallStack, first: tuple[Path, str], tmp_path: Path
) -> None:
    out, start = tmp_path / "out", first[0] / "abinitio.mrc"
    assert "C0" in refusal(UsageError, out, "abinitio", stack.table, "--symmetry", "C0")
    assert "'X2'" in refusal(UsageError, out, "refine", stack.table, "--map", start, "--symmetry", "X2")
    assert "--diameter" in refusal(UsageError, out, "abinitio", stack.table, "--diameter", "9999")
    assert "--working-box" in refusal(UsageError, out, "abinitio", stack.table, "--working-box", "40")
    assert "none.mrc" in refusal(InputError, out, "refine", stack.table, "--map", tmp_path / "none.mrc")
    slab = tmp_path / "slab.mrc"
    write_mrc(slab, np.ones((4, 8, 8), dtype=np.float32), 2.0, is_volume=True)
    assert "slab.mrc has the shape (4, 8, 8)" in refusal(InputError, out, "refine", stack.table, "--map", slab)
    spoilt, pixel = read_mrc(start)
    spoilt[3, 4, 5] = np.nan
    write_mrc(tmp_path / "spoilt.mrc", spoilt, pixel, is_volume=True)
    sentence = refusal(InputError, out, "refine", stack.table, "--map", tmp_path / "spoilt.mrc")
    assert "spoilt.mrc holds values that are not numbers" in sentence
    wide = ("refine", stack.table, "--map", start, "--start-resolution")
    assert "--start-resolution" in refusal(UsageError, out, *wide, "100000")
    assert "--start-resolution" in refusal(UsageError, out, *wide, "-3")
    (tmp_path / "file").write_text("in the way")
    for command in (("abinitio", stack.table), ("refine", stack.table, "--map", start)):
        assert "cannot make the folder" in refusal(OutputError, tmp_path / "file" / "out", *command)
    assert (tmp_path / "file").read_text() == "in the way"


def test_nothing_is_written_when_the_work_fails_late(
    stack: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ResourceError("memory ran out")

    monkeypatch.setattr(pose_assignment, "lay_on", fail)
    monkeypatch.setattr(refinement, "solve_map", fail)
    truth = tmp_path / "truth.mrc"
    write_mrc(truth, stack.simulated.volume, 5.0, is_volume=True)
    first = ("abinitio", stack.table, "--method", "projection-matching", "--starts", "1")
    assert refusal(ResourceError, tmp_path / "a", *first) == "memory ran out"
    assert refusal(ResourceError, tmp_path / "b", "refine", stack.table, "--map", truth) == "memory ran out"
