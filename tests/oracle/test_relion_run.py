"""RELION goes on from the files of a run: it reconstructs our map from our poses, and refines from it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from clarice.benchmark import peer_relion as relion
from clarice.benchmark.main_job import stated_resolution
from clarice.benchmark.measured import CLARICE
from clarice.benchmark.peer_relion import RelionSettings
from clarice.benchmark.protocol import SimulatedStack, StackSettings, judge_map, judge_poses, make_stack, read_rows
from clarice.benchmark.structures import load_subject
from clarice.geometry.so3 import angle_between_deg
from clarice.io.mrc import read_mrc
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation
from clarice.report.folder import RunFiles
from clarice.report.next_steps import next_steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(relion.missing() is not None, reason=f"RELION: {relion.missing()}"),
]
SETTINGS = RelionSettings(threads=2, timeout_seconds=600)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> SimulatedStack:
    settings = StackSettings(particles=600, box=48, snr=0.3, defocus_groups=12)
    return make_stack(load_subject("molecule-103", None), 1, settings, tmp_path_factory.mktemp("stack"), None)


@pytest.fixture(scope="module")
def run(stack: SimulatedStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours") / "run"
    words = [*CLARICE, "run", str(stack.star), "-o", str(folder), "--seed", "1"]
    finished = subprocess.run(words, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_relion_makes_our_map_from_our_poses(stack: SimulatedStack, run: Path, tmp_path: Path) -> None:
    job = relion.reconstruct(stack, run / "particles.star", tmp_path / "theirs.mrc", SETTINGS)
    assert not job.usage.failed, job.usage.message
    assert job.warnings == ()
    stated = stated_resolution(run)
    assert stated is not None
    found = relion.agreement(job.volume, run / "map.mrc", stated)
    assert found.beyond_stated, found
    assert judge_map(job.volume, stack).right


def test_relion_refines_from_our_files_without_complaint(stack: SimulatedStack, run: Path, tmp_path: Path) -> None:
    ours = run / "particles.star"
    job = relion.start_refinement(stack, ours, run / "map.mrc", tmp_path / "refined", SETTINGS)
    assert not job.usage.failed, job.usage.message
    assert job.warnings == ()
    before, after = read_rows(ours, stack).rotations, read_rows(job.table, stack).rotations
    assert before is not None
    assert after is not None
    # RELION looks within ±15° around our angles on a grid of 3.75°: it stays near them.
    assert np.median(angle_between_deg(before, after)) < 8
    theirs = judge_poses(job.table, stack)["orientation_median_deg"]
    assert theirs < judge_poses(ours, stack)["orientation_median_deg"] + 5


def test_relion_classifies_our_stack_without_complaint(stack: SimulatedStack, tmp_path: Path) -> None:
    quick = RelionSettings(threads=2, timeout_seconds=600, quick=True)
    job = relion.classify(stack, tmp_path / "classes", quick, 5)
    assert not job.usage.failed, job.usage.message
    assert job.warnings == ()


@pytest.mark.skipif(shutil.which("relion_image_handler") is None, reason="relion_image_handler is not on the path")
def test_the_report_s_way_on_leads_through_relion_for_dark_protein(tmp_path: Path) -> None:
    """Every command of the page but the refinement, as it stands there: RELION's map from our poses is ours."""
    settings = SimulationSettings(particles=300, box=32, seed=2, snr=1.0, defocus_groups=4)
    simulated = simulate(make_molecule(2, mass_kda=80), settings)
    write_simulation(simulated, tmp_path / "stack", contrast="dark", specimen="made")
    words = [*CLARICE, "run", "stack/particles.star", "-o", "run", "--seed", "1", "--first-map", "projection-matching"]
    finished = subprocess.run(
        [*words, "--starts", "2", "--method", "wiener"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    run = RunFiles(tmp_path / "run")
    steps = next_steps(run, run.json("run.json"), 100.0)
    assert steps is not None
    assert any("multiply_constant -1" in command.text for command in steps.relion)
    for command in steps.relion[:-1]:
        line = command.text.replace("clarice ", shlex.join(CLARICE) + " ", 1)
        done = subprocess.run(line, shell=True, cwd=run.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    (theirs, _), (ours, _) = read_mrc(run.path / "check.mrc"), read_mrc(run.path / "map.mrc")
    # Bright as ours: a dark stack, not turned, would give a correlation below 0.
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.5
