"""`clarice reconstruct` from true poses: maps, their FSC, and refusals that leave nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.cli.map_commands import BOX, SmallStack, make_stack, refusal, run

from clarice.cli import output_folder
from clarice.cli import reconstruct as command
from clarice.core.errors import InputError, OutputError, ResourceError, UsageError
from clarice.io.mrc import read_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.io.star import read_star
from clarice.metrics.registration import resample
from clarice.metrics.shells import fsc
from clarice.pipeline import resources


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> SmallStack:
    return make_stack(tmp_path_factory.mktemp("stack"))


@pytest.mark.parametrize("box", [32, 25])
def test_true_poses_give_the_true_map(stack: SmallStack, tmp_path: Path, box: int) -> None:
    options = () if box == BOX else ("--working-box", str(box))
    said = run("reconstruct", stack.with_poses, "-o", tmp_path / "out", "--contrast", "dark", *options)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(command.WRITES)
    pixel = stack.pixel_size_angstrom * BOX / box
    truth = resample(stack.simulated.volume, box, BOX / box)
    for name in ("map", "half1", "half2"):
        volume, stated = read_mrc(tmp_path / "out" / f"{name}.mrc")
        assert volume.shape == (box, box, box)
        assert stated == pytest.approx(pixel, rel=1e-5)
        # No registration: the poses in the table and the map share one frame, protein bright.
        assert fsc(volume, truth)[1 : box // 4].min() > 0.9
    record = json.loads((tmp_path / "out" / "fsc.json").read_text())
    assert record["box"] == box
    resolution = record["resolution_angstrom"]["0.143"]
    assert 2 * pixel <= resolution < 3.5 * pixel
    assert f"{resolution:.1f} Å at FSC 0.143" in said
    assert re.match(r"the map: about \d+ s, \d+ MB of memory, \d+ MB of disk\n", said)
    curve = read_star(tmp_path / "out" / "fsc.star")["fsc"]["rlnFourierShellCorrelationCorrected"].astype(float)
    np.testing.assert_allclose(curve, record["curves"]["corrected"], atol=1e-4)


def test_half_sets_of_the_same_images_are_warned_of(stack: SmallStack, tmp_path: Path) -> None:
    particles = open_particles(stack.with_poses)
    doubled, half = np.arange(2 * len(particles)) // 2, np.arange(2 * len(particles)) % 2 + 1
    write_particles(particles.subset(doubled), tmp_path / "doubled.star", half_set=half)
    said = run("reconstruct", tmp_path / "doubled.star", "-o", tmp_path / "out", "--contrast", "dark")
    assert "rows repeat an image of another row" in said
    assert "warning: the two half maps are the same map" in said
    assert "at or beyond Nyquist" in said


def test_refusals_are_one_sentence_and_leave_nothing(stack: SmallStack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sentence = refusal(InputError, out, "reconstruct", stack.table)
    assert "holds no poses (_rlnAngleRot" in sentence
    assert "particles.star" in sentence
    assert "'Q'" in refusal(UsageError, out, "reconstruct", stack.with_poses, "--symmetry", "Q")
    assert "--diameter" in refusal(UsageError, out, "reconstruct", stack.with_poses, "--diameter", "-1")
    for box in ("0", "99"):
        assert "--working-box" in refusal(UsageError, out, "reconstruct", stack.with_poses, "--working-box", box)
    (tmp_path / "file").write_text("in the way")
    assert "cannot make the folder" in refusal(OutputError, tmp_path / "file" / "out", "reconstruct", stack.with_poses)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when the work begins."""

    def never(*_: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(command, "prepare_stack", never)


@pytest.mark.usefixtures("no_work")
def test_a_folder_that_may_not_be_written_is_refused_before_the_work(
    stack: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_folder.os, "access", lambda path, *_, **__: path != tmp_path / "out")
    sentence = refusal(OutputError, tmp_path / "out", "reconstruct", stack.with_poses)
    assert sentence.endswith("out: permission denied")


@pytest.mark.usefixtures("no_work")
def test_a_map_that_cannot_fit_is_refused_before_the_work(
    stack: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(resources, "memory_within_reach_mb", lambda: 300.0)
        sentence = refusal(ResourceError, tmp_path / "out", "reconstruct", stack.with_poses)
    assert re.match(r"the map needs about \d+ MB of memory and 300 MB can be had: use a smaller working box", sentence)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(resources, "free_disk_mb", lambda _: 0.0)
    sentence = refusal(ResourceError, tmp_path / "out", "reconstruct", stack.with_poses)
    assert "is free on the disk of" in sentence
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_when_the_work_fails_late(
    stack: SmallStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ResourceError("memory ran out")

    monkeypatch.setattr(command, "mask_from_map", fail)
    assert refusal(ResourceError, tmp_path / "out", "reconstruct", stack.with_poses) == "memory ran out"
