"""`clarice denoise`: the files it writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from clarice.cli import denoise as command
from clarice.core.errors import ClariceError, InputError, UsageError
from clarice.denoise.networks import NETWORKS
from clarice.denoise.registry import denoiser_names, get_denoiser
from clarice.io.mrc import inspect_mrc, read_mrc
from clarice.io.star import read_star
from clarice.metrics.image import image_scores
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation
from clarice.pipeline.denoised_files import DEVIATIONS
from clarice.pipeline.denoised_notes import ERRORS, NOTES


@pytest.fixture(scope="module")
def dark_stack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A protein-dark data set on disk, and its clean images."""
    folder = tmp_path_factory.mktemp("set")
    settings = SimulationSettings(particles=250, box=36, seed=7, snr=0.15, max_shift_px=1.0)
    simulated = simulate(make_molecule(3, mass_kda=60), settings)
    write_simulation(simulated, folder, contrast="dark", specimen="a molecule")
    return folder / "particles.star", simulated.clean


def run(*arguments: str) -> str:
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, ClariceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("method", denoiser_names())
def test_images_come_in_the_inputs_order_box_sign_and_noise_units(
    dark_stack: tuple[Path, np.ndarray], tmp_path: Path, method: str
) -> None:
    stack, clean = dark_stack
    out = tmp_path / "out"
    text = run(str(stack), "-o", str(out), "--method", method, "--contrast", "dark", "--working-box", "30")
    assert "250 particles denoised" in text
    chosen = get_denoiser(method)
    told = {NOTES, ERRORS} if chosen.telling is not None else set()
    told |= {DEVIATIONS} if chosen.several_samples else set()
    assert {path.name for path in out.iterdir()} == {"denoised.mrcs", "denoised.star", "denoised.json"} | told
    images, pixel_size = read_mrc(out / "denoised.mrcs")
    assert images.shape == (250, 36, 36)
    assert pixel_size == pytest.approx(float(inspect_mrc(stack.with_suffix(".mrcs")).pixel_size_angstrom or 0))
    assert float(np.mean(image_scores(-images, clean).correlation)) > 0.6
    # The noise of the made set has variance 1: the estimates are in the units of `clean`. Enlarged to the box that
    # networks are trained on, these images are clearer than any they saw.
    tolerance = 0.35 if method in NETWORKS else 0.2
    assert float(-(images * clean).sum() / (images**2).sum()) == pytest.approx(1.0, abs=tolerance)
    table = read_star(out / "denoised.star")["particles"]
    source = read_star(stack)["particles"]
    assert list(table["rlnMicrographName"]) == list(source["rlnMicrographName"])
    assert table["rlnImageName"].iloc[4] == "000005@denoised.mrcs"
    assert "rlnDefocusU" not in table
    record = json.loads((out / "denoised.json").read_text())
    assert record["method"] == method
    assert record["preparation"]["sign"] == -1
    if ERRORS in told:
        errors = np.load(out / ERRORS)
        assert (errors.shape, errors.dtype) == ((250, 16), np.float16)
        assert errors.mean(axis=0, dtype=np.float64) == pytest.approx(record["expected_error_by_shell"], rel=0.002)


def test_the_methods_are_listed() -> None:
    text = run("--list-methods")
    assert all(name in text for name in denoiser_names())


def test_refusals_leave_nothing_behind(dark_stack: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    stack, out = dark_stack[0], tmp_path / "out"
    with pytest.raises(UsageError, match="covariance-wiener"):
        run(str(stack), "-o", str(out), "--method", "magic")
    with pytest.raises(InputError, match="half sets"):
        run(str(stack), "-o", str(out), "--contrast", "dark", "--halves-apart")
    with pytest.raises(UsageError, match="--working-box"):
        run(str(stack), "-o", str(out), "--contrast", "dark", "--working-box", "500")
    with pytest.raises(InputError, match="does not exist"):
        run(str(tmp_path / "none.star"), "-o", str(out))
    assert not out.exists() or not list(out.iterdir())
