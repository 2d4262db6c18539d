"""A run killed at any moment and started again comes to the same result, byte for byte."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.pipeline.toy_pipeline import results, run_toy, toy_stages

from clarice.pipeline.engine import execute
from clarice.pipeline.run_folder import open_run

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["clarice.pipeline.engine"])


def run_and_die_at(folder: Path, source: Path, fatal_operation: int) -> None:
    """Runs the pipeline and kills itself just before the n-th operation that changes the disk."""
    done = 0

    def dying(operation):  # type: ignore[no-untyped-def]
        def wrapped(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal done
            done += 1
            if done == fatal_operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return wrapped

    for name in ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir"):
        setattr(os, name, dying(getattr(os, name)))
    run_toy(folder, source)


def exit_code_of(target, *args) -> int | None:  # type: ignore[no-untyped-def]
    process = PROCESSES.Process(target=target, args=args)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(b"1234567")
    return path


@pytest.fixture
def undisturbed(tmp_path: Path, source: Path) -> dict[str, bytes]:
    run_toy(tmp_path / "undisturbed", source)
    return results(tmp_path / "undisturbed")


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_operation_on_the_disk(
    tmp_path: Path, source: Path, undisturbed: dict[str, bytes], stride: int
) -> None:
    """In a new folder each time, killed `stride` operations later than in the last."""
    operation = 1
    while True:
        operation += stride
        folder = tmp_path / f"killed-{operation}"
        code = exit_code_of(run_and_die_at, folder, source, operation)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        run_toy(folder, source)
        assert results(folder) == undisturbed, f"after a kill before operation {operation}"
    assert operation > 50


def test_killed_again_and_again_in_one_folder(tmp_path: Path, source: Path, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "run"
    choose = random.Random(3)
    for _ in range(10):
        exit_code_of(run_and_die_at, folder, source, choose.randrange(4, 60))
    run_toy(folder, source)
    assert results(folder) == undisturbed
    assert (folder / "clarice.log").read_text().count("resumed") >= 9


def test_killed_at_random_moments(tmp_path: Path, source: Path, undisturbed: dict[str, bytes]) -> None:
    choose = random.Random(4)
    for attempt in range(10):
        folder = tmp_path / f"run-{attempt}"
        process = PROCESSES.Process(target=run_toy, args=(folder, source))
        process.start()
        while not (folder / "run.json").exists():
            time.sleep(0.005)
        time.sleep(choose.uniform(0.0, 0.4))
        process.kill()
        process.join()
        run_toy(folder, source)
        assert results(folder) == undisturbed


def test_resumes_in_the_middle_of_a_stage(tmp_path: Path, source: Path) -> None:
    """Killed inside the walk, the next run takes fewer steps than there are."""
    for operation in range(30, 200):
        folder = tmp_path / f"run-{operation}"
        exit_code_of(run_and_die_at, folder, source, operation)
        if (folder / ".work/walk/state.pt").exists():
            break
    record = json.loads((folder / "run.json").read_text())
    assert [entry["status"] for entry in record["stages"]] == ["done", "running"]
    steps: list[int] = []
    with open_run(folder, command="toy", arguments={}) as run:
        execute(run, toy_stages(source), progress=lambda *told: steps.append(told[1]))
    assert steps[0] > 1
    assert steps[-1] == 6
