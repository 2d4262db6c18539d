"""RELION goes on from the files of a run: it reconstructs our map from our poses, and refines from it."""

from __future__ import annotations

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
