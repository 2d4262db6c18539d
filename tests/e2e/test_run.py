"""`clarice run`, from a stack to the report, as a user starts it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.outputs import listed_outputs
from tests.e2e.program import PROGRAM, call

from clarice.io.mrc import read_mrc
from clarice.io.stack import open_particles
from clarice.io.star import read_star

Clarice = Callable[..., subprocess.CompletedProcess[str]]


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return record


def result_hashes(folder: Path) -> dict[str, str]:
    """Hashes of the numbers a run ends in; reports and records tell times, so they may differ."""
    hashes = {}
    maps = ("abinitio", "map", "map_mirror", "half1", "half2", "map_sharpened", "local_resolution")
    for name in (*(f"{name}.mrc" for name in maps), "denoised.mrcs", "classes.mrcs"):
        values = np.ascontiguousarray(read_mrc(folder / name)[0])
        hashes[name] = hashlib.sha256(values.tobytes()).hexdigest()
    for name in ("particles.star", "class_members.star", "selected.star", "fsc.star"):
        rows = [line for line in (folder / name).read_text().splitlines() if not line.startswith("#")]
        hashes[name] = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    return hashes


def test_run_leaves_what_the_readme_lists(finished_run: Path) -> None:
    listed = listed_outputs()
    assert len(listed) >= 12
    assert {name for name in listed if not (finished_run / name).is_file()} == set()
    assert not [path.name for path in finished_run.iterdir() if path.name.startswith(".")]


def test_record_is_enough_to_audit_the_run(finished_run: Path, small_data: Path) -> None:
    record = record_of(finished_run)
    stack = small_data / "particles.star"
    assert record["input"]["sha256"] == hashlib.sha256(stack.read_bytes()).hexdigest()
    assert (record["input"]["particles"], record["input"]["box"], record["seed"]) == (300, 32, 1)
    assert {stage["status"] for stage in record["stages"]} == {"done"}
    assert record["peak_memory_mb"] == max(stage["peak_memory_mb"] for stage in record["stages"])


def test_particles_keep_rows_order_and_columns(finished_run: Path, small_data: Path) -> None:
    before = read_star(small_data / "particles.star")["particles"]
    after = read_star(finished_run / "particles.star")["particles"]
    assert set(before.columns) <= set(after.columns)
    sections = [names["rlnImageName"].str.partition("@")[0].tolist() for names in (before, after)]
    assert sections[0] == sections[1]
    assert {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnRandomSubset"} <= set(after.columns)


def test_no_image_has_a_source_in_the_other_half_set(finished_run: Path) -> None:
    half_set = open_particles(finished_run / "particles.star").half_set
    assert half_set is not None
    pairs = read_star(finished_run / "denoised_sources.star")["sources"]
    row, source = (np.array([int(value) for value in pairs[name]]) - 1 for name in ("clariceRow", "clariceSourceRow"))
    assert set(half_set[row]) == {1, 2}
    assert (half_set[row] == half_set[source]).all()


def test_same_command_again_skips_every_stage(clarice: Clarice, finished_run: Path, small_data: Path) -> None:
    before = result_hashes(finished_run)
    began = time.monotonic()
    clarice("run", small_data / "particles.star", "-o", finished_run, "--seed", "1")
    assert {stage["status"] for stage in record_of(finished_run)["stages"]} == {"skipped"}
    assert result_hashes(finished_run) == before
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_ten_kills_do_not_change_the_result(finished_run: Path, small_data: Path, tmp_path: Path) -> None:
    """SIGKILL at ten random moments of the run's length, each followed by the same command."""
    expected = result_hashes(finished_run)
    seconds = sum(stage["seconds"] for stage in record_of(finished_run)["stages"])
    moments = np.random.default_rng(5).uniform(0.5, 3 + seconds / 3, size=10)
    words = ("run", small_data / "particles.star", "-o", tmp_path / "run", "--seed", "1")
    killed = 0
    for moment in moments:
        with subprocess.Popen(
            [*PROGRAM, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(float(moment))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
    assert killed >= 3
    finished = call(*words)
    assert finished.returncode == 0, finished.stderr
    assert result_hashes(tmp_path / "run") == expected
