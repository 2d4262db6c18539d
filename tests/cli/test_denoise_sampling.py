"""`clarice denoise` with methods that sample: their options, the files they write, and what one sample is called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.denoise.sampling_weights import write_random_weights

from clarice.cli.denoise import denoise
from clarice.core.errors import UsageError
from clarice.io.mrc import read_mrc
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few particles on disk."""
    folder = tmp_path_factory.mktemp("set")
    made = simulate(make_molecule(3, mass_kda=60), SimulationSettings(particles=30, box=32, seed=7, snr=0.2))
    write_simulation(made, folder, specimen="a molecule")
    return folder / "particles.star"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_random_weights(folder)
    return folder


def clarice(weights: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Methods are registered when a process starts, by the weights that are there."""
    command = [sys.executable, "-c", "from clarice.cli.app import main; main()", "denoise", *arguments]
    environment = {**os.environ, "CLARICE_WEIGHTS": str(weights), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("method", ["diffusion", "diffusion+refiner"])
def test_the_mean_and_the_deviation_of_samples_are_written(
    stack: Path, weights: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "out"
    done = clarice(weights, str(stack), "-o", str(out), "--method", method, "--steps", "2", "--samples", "3")
    assert done.returncode == 0, done.stderr
    images, pixel = read_mrc(out / "denoised.mrcs")
    deviation, same = read_mrc(out / "denoised_deviation.mrcs")
    assert images.shape == deviation.shape == (30, 32, 32)
    assert pixel == same
    assert (np.asarray(deviation) >= 0).all()
    assert np.asarray(deviation).mean() > 0
    assert json.loads((out / "denoised.json").read_text())["sampling"] == {
        "steps": 2, "samples": 3, "sampler": "ancestral", "seed": 0,
    }  # fmt: skip
    assert (out / "denoised_sources.star").is_file()


@pytest.mark.parametrize("method", ["diffusion", "diffusion+refiner"])
def test_a_single_sample_is_called_one_possibility_unless_it_was_corrected(
    stack: Path, weights: Path, tmp_path: Path, method: str
) -> None:
    arguments = [str(stack), "-o", str(tmp_path), "--method", method, "--steps", "1", "--samples", "1"]
    (tmp_path / "denoised_deviation.mrcs").write_bytes(b"of other images, made before")
    done = clarice(weights, *arguments)
    assert done.returncode == 0, done.stderr
    told = "one possibility of what the particle may be" in " ".join(done.stdout.split())
    assert told is (method == "diffusion")
    assert not (tmp_path / "denoised_deviation.mrcs").exists()


def test_options_of_sampling_are_refused_by_other_methods(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--steps is for methods that sample, which wiener does not"):
        denoise(stack, tmp_path / "out", method="wiener", steps=3)
    assert not (tmp_path / "out").exists()


def test_steps_beyond_the_schedule_are_refused_in_one_sentence(stack: Path, weights: Path, tmp_path: Path) -> None:
    done = clarice(weights, str(stack), "-o", str(tmp_path / "out"), "--method", "diffusion", "--steps", "3000")
    assert done.returncode != 0
    assert "3000 steps: choose between 1 and 2000" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
