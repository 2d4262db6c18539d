"""Memory foretold: beside what a process takes in truth, and as the sizes of the work say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from clarice.abinitio.from_poses import samples_at_once
from clarice.pipeline import memory
from clarice.pipeline.memory import (
    INTERPRETER_MB,
    first_map,
    reconstruction,
    refinement,
    refinement_mb,
    view_grid_mb,
    volume_mb,
)

# Prints the memory in MB before a map is made from noise, at the worst moment of making it, and as foretold.
MAP_OF_NOISE = """
import json, re, sys
from pathlib import Path
import clarice.cli.app
import numpy as np, torch
from clarice.abinitio.from_poses import reconstruct_from_poses
from clarice.core.particles import ArraySource, ParticleSet, Poses
from clarice.geometry.so3 import random_rotations
from clarice.physics.noisy_set import white_set
from clarice.pipeline.memory import reconstruction

box, count = int(sys.argv[1]), int(sys.argv[2])
generator = torch.Generator().manual_seed(0)
# Not getrusage, whose peak a process takes over from the one that started it.
peak_mb = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = peak_mb()
images = torch.randn((count, box, box), generator=generator).numpy()
noise = white_set(ParticleSet(ArraySource(images), pixel_size_angstrom=2.0))
poses = Poses(random_rotations(count, generator), np.zeros((count, 2)))
reconstruct_from_poses(noise, poses, np.arange(count) % 2 + 1, 0.7 * box)
print(json.dumps([before, peak_mb(), reconstruction(count, box, box, 1).memory_mb]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are told elsewhere on other systems")
@pytest.mark.parametrize(
    ("box", "count", "workers"),
    [
        (48, 600, 1),
        (64, 60, 2),
        pytest.param(88, 60, 1, marks=pytest.mark.slow),
        pytest.param(88, 60, 2, marks=pytest.mark.slow),
    ],
)
def test_a_reconstruction_takes_what_is_foretold(box: int, count: int, workers: int) -> None:
    command = [sys.executable, "-c", MAP_OF_NOISE, str(box), str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(workers)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    before_mb, peak_mb, expected_mb = json.loads(done.stdout)
    assert 0.7 < INTERPRETER_MB / before_mb < 1.6
    assert 0.7 < (expected_mb - INTERPRETER_MB) / (peak_mb - before_mb) < 1.6


def test_a_reconstruction_grows_with_the_cube_of_its_box() -> None:
    small, large = (reconstruction(100, 512, box, 1) for box in (256, 512))
    assert 6 < large.memory_mb / small.memory_mb < 8
    assert large.memory_mb > 130 * volume_mb(512) > 60_000
    assert large.disk_mb == pytest.approx(8 * small.disk_mb)
    assert large.seconds > 7 * small.seconds


def test_time_grows_with_starts_particles_iterations_and_the_box() -> None:
    assert first_map(1000, 64, 64, 6).seconds == 3 * first_map(9000, 64, 64, 2).seconds  # it works on batches
    base = refinement(1000, 64, 64, 1, 6)
    assert refinement(2000, 64, 64, 1, 6).seconds > 1.9 * base.seconds
    assert refinement(1000, 64, 64, 1, 12).seconds > 1.9 * base.seconds
    assert refinement(1000, 128, 128, 1, 6).seconds > 3.8 * base.seconds
    assert base.disk_mb == 5 * volume_mb(64)
    assert base.memory_mb == refinement_mb(1000, 64, 64, 1)


def test_more_samples_go_together_on_larger_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reconstruction, and of the views of a refinement."""
    few, many = (reconstruction(count, 160, 160, 1) for count in (10, 10_000))
    samples_mb = memory.BYTES_PER_SAMPLE * 2 * 160**3 / 2**20
    assert samples_mb * 0.9 < many.memory_mb - few.memory_mb - 9_990 * 160**2 * 4 / 2**20 < samples_mb
    monkeypatch.setattr(memory, "worker_count", lambda: 1)
    grown = refinement_mb(1000, 160, 160, 1)
    monkeypatch.setattr(memory, "view_samples_at_once", lambda _: 2**20)
    more_mb = memory.BYTES_PER_SAMPLE * (160**3 - 2**20) / 2**20
    assert grown - refinement_mb(1000, 160, 160, 1) == pytest.approx(more_mb)


def test_a_reconstruction_holds_its_images_and_some_samples_at_a_time() -> None:
    few, many, more = (reconstruction(count, 64, 64, 1) for count in (100, 10_000, 20_000))
    samples_mb = memory.BYTES_PER_SAMPLE * samples_at_once(64) / 2**20
    assert samples_mb * 0.9 < many.memory_mb - few.memory_mb - 9_900 * 64**2 * 4 / 2**20 < samples_mb
    assert more.memory_mb - many.memory_mb == pytest.approx(10_000 * 64**2 * 4 / 2**20)
    assert few.seconds < many.seconds < more.seconds


def test_large_images_in_a_small_working_box_take_what_their_preparation_does() -> None:
    at_most = reconstruction(100, 32, 32, 1).memory_mb
    assert reconstruction(500, 400, 32, 1).memory_mb > at_most + 200


def test_symmetry_spares_views_and_multiplies_samples() -> None:
    whole, unit = view_grid_mb(64, 3.0, 1), view_grid_mb(64, 3.0, 24)
    assert 1 / 24 < unit / whole < 1 / 15
    assert refinement_mb(1000, 64, 64, 24) < refinement_mb(1000, 64, 64, 1) - 2.7 * (whole - unit)
    assert reconstruction(1000, 64, 64, 4).seconds > reconstruction(1000, 64, 64, 1).seconds


def test_a_refinement_grows_with_maps_views_particles_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "worker_count", lambda: 1)
    base = refinement_mb(1000, 64, 64, 1)
    assert refinement_mb(9000, 64, 64, 1) > base + 8000 * 64**2 * 4 / 2**20
    larger = refinement_mb(1000, 128, 128, 1)
    assert larger - base > 80 * (volume_mb(128) - volume_mb(64)) + 3 * (
        view_grid_mb(128, 3.0, 1) - view_grid_mb(64, 3.0, 1)
    )
    monkeypatch.setattr(memory, "worker_count", lambda: 2)
    assert refinement_mb(1000, 64, 64, 1) > base + 65 * volume_mb(64)
