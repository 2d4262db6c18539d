"""A small stack that jobs start from."""

from __future__ import annotations

import pytest

from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation
from clarice.pipeline.stack_input import StackInput


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> StackInput:
    """120 particles of 24 px."""
    folder = tmp_path_factory.mktemp("stack")
    settings = SimulationSettings(particles=120, box=24, seed=3, snr=1.0, defocus_groups=4)
    write_simulation(simulate(make_molecule(2, mass_kda=80), settings), folder, contrast="bright", specimen="made")
    return StackInput.of(folder / "particles.star")
