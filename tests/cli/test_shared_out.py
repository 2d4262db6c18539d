"""Commands whose work processes share out, and that go on after a kill: the very files of one undisturbed process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.denoise.sampling_weights import write_random_weights

from clarice.core.errors import UsageError
from clarice.io.stack import open_particles, write_particles
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation
from clarice.pipeline.unfinished import FOLDER

PROGRAM = [sys.executable, "-c", "from clarice.cli.app import main; main()"]
BY_TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
COMMANDS = {
    "denoise": (("denoise", "--halves-apart"), ("denoised.mrcs", "denoised_sources.star", "denoised_errors.npy")),
    "sampling": (
        ("denoise", "--method", "diffusion", "--steps", "3", "--samples", "2"),
        ("denoised.mrcs", "denoised_errors.npy", "denoised_deviation.mrcs"),
    ),
    "classify": (("classify", "--classes", "6", "--iterations", "6"), ("classes.mrcs", "class_members.star")),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 2,100 particles of 24 px, more than one block of a classification; a table of the first 600,
    each half of them more than one set of a denoiser; and weights of small networks.
    """
    folder = tmp_path_factory.mktemp("stack")
    settings = SimulationSettings(particles=2100, box=24, seed=5, snr=0.3, defocus_groups=4)
    write_simulation(simulate(make_molecule(2, mass_kda=80), settings), folder, contrast="bright", specimen="made")
    few = open_particles(folder / "particles.star").subset(np.arange(600))
    write_particles(few, folder / "few.star", extra_columns={"rlnRandomSubset": 1 + np.arange(600) % 2})
    write_random_weights(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    for name in COMMANDS:
        done = finished(PROGRAM, command(name, stack, folder / name))
        assert done.returncode == 0, done.stderr
    return folder


def command(name: str, stack: Path, output: Path) -> list[str]:
    (verb, *options), _ = COMMANDS[name]
    table = stack / ("particles.star" if name == "classify" else "few.star")
    return [verb, str(table), "-o", str(output), *options]


def environment_of(arguments: list[str]) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CLARICE_WEIGHTS": str(Path(arguments[1]).parent)}


def finished(program: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = environment_of(arguments)
    whole = [*program, *(PROGRAM if program is BY_TWO else ()), *arguments]
    return subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=600, check=False)


def assert_same_files(name: str, one: Path, other: Path) -> None:
    for file in COMMANDS[name][1]:
        assert (one / name / file).read_bytes() == (other / name / file).read_bytes(), file
    assert {path.name for path in (one / name).iterdir()} == {path.name for path in (other / name).iterdir()}


@pytest.mark.parametrize("name", ["denoise", "classify"])
def test_two_processes_write_the_files_of_one(name: str, stack: Path, undisturbed: Path, tmp_path: Path) -> None:
    done = finished(BY_TWO, command(name, stack, tmp_path / name))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{2100 if name == 'classify' else 600} particles ") == 1
    assert_same_files(name, undisturbed, tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_goes_on(name: str, stack: Path, undisturbed: Path, tmp_path: Path) -> None:
    kept = tmp_path / name / FOLDER
    arguments = command(name, stack, tmp_path / name)
    process = subprocess.Popen([*PROGRAM, *arguments], env=environment_of(arguments))
    while process.poll() is None and len(list(kept.rglob("*.safetensors"))) < 4:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = finished(PROGRAM, arguments)
    assert done.returncode == 0, done.stderr
    assert "going on with what an earlier call has left" in done.stdout
    assert_same_files(name, undisturbed, tmp_path)


def test_a_method_that_is_not_shared_out_says_so(stack: Path, tmp_path: Path) -> None:
    done = finished(BY_TWO, ["denoise", str(stack / "few.star"), "-o", str(tmp_path / "out"), "--method", "wiener"])
    assert done.returncode != 0
    assert "the work of wiener is not shared out among processes: start it without torchrun" in done.stderr
    assert not (tmp_path / "out").exists()
    assert f"(exitcode: {UsageError.exit_code})" in done.stderr
