"""Our physics against `relion_project` itself, on a map and poses made here and now."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from clarice.core.particles import Optics, Poses
from clarice.geometry.slices import project
from clarice.geometry.so3 import euler_to_matrix
from clarice.io.mrc import read_mrc
from clarice.metrics.shells import fsc
from clarice.physics.image_formation import form_images
from clarice.physics.molecules import make_molecule
from clarice.physics.potential import atom_projector, atoms_to_volume
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation

pytestmark = pytest.mark.skipif(
    shutil.which("relion_project") is None,
    reason="RELION is not installed: relion_project is not on the path",
)


@pytest.fixture(scope="module")
def golden_maker() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "golden" / "make_golden.py"
    spec = importlib.util.spec_from_file_location("make_golden", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def correlations(ours: torch.Tensor, theirs: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours.numpy(), theirs, strict=True)])


def test_angles_shifts_and_ctf_agree_for_a_protein(golden_maker: ModuleType) -> None:
    box, pixel_size = 64, 4.0
    atoms = make_molecule(12, mass_kda=150)
    volume = atoms_to_volume(atoms, box, pixel_size)
    parameters = golden_maker.make_parameters(seed=23)
    rotations = euler_to_matrix(parameters["euler_deg"])
    count = len(rotations)
    u, v, angle, phase = parameters["defocus"].T
    voltage, aberration, amplitude = (np.full(count, value) for value in parameters["optics"])
    optics = Optics(voltage, aberration, amplitude, u, v, angle, phase, np.zeros(count))
    poses = Poses(rotations, parameters["origin_angstrom"] / pixel_size)
    projections = project(volume, rotations)
    shifted, with_ctf = form_images(projections, poses, optics, box, pixel_size)
    for ours, options in (
        (projections, {"shifts": False, "ctf": False}),
        (shifted, {"shifts": True, "ctf": False}),
        (with_ctf, {"shifts": True, "ctf": True}),
    ):
        theirs = golden_maker.relion_project(volume.numpy(), pixel_size, parameters, **options)
        assert correlations(ours, theirs).min() >= 0.999, options
    theirs = golden_maker.relion_project(volume.numpy(), pixel_size, parameters, shifts=False, ctf=False)
    direct = atom_projector(atoms, box, pixel_size)(rotations)
    assert correlations(direct, theirs).min() >= 0.998


def test_the_golden_file_is_what_relion_makes_today(golden_maker: ModuleType) -> None:
    with np.load(golden_maker.TARGET) as golden:
        volume = golden["volume"].astype(np.float32)
        np.testing.assert_allclose(volume, golden_maker.make_map(), atol=2e-3 * float(volume.max()))
        parameters = golden_maker.make_parameters()
        np.testing.assert_allclose(golden["euler_deg"], parameters["euler_deg"])
        theirs = golden_maker.relion_project(
            volume, float(golden["pixel_size_angstrom"]), parameters, shifts=True, ctf=True
        )
        assert correlations(torch.from_numpy(theirs), golden["ctf"].astype(np.float64)).min() > 0.9999


@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="relion_reconstruct is not on the path")
def test_relion_reconstructs_the_map_from_our_files(tmp_path: Path) -> None:
    settings = SimulationSettings(particles=400, box=32, seed=9, snr=1.0)
    simulated = simulate(make_molecule(12, mass_kda=150), settings)
    write_simulation(simulated, tmp_path, specimen="procedural molecule 12")
    command = ["relion_reconstruct", "--i", "truth.star", "--o", "made.mrc", "--ctf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    made, pixel_size = read_mrc(tmp_path / "made.mrc")
    assert pixel_size == pytest.approx(simulated.particles.pixel_size_angstrom, rel=1e-4)
    curve = fsc(torch.from_numpy(made), torch.from_numpy(simulated.volume))
    assert np.min(curve[1:12]) > 0.9
