"""A small stack with its truth, for the denoisers' own tests."""

from __future__ import annotations

import pytest

from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate


@pytest.fixture(scope="session")
def simulated() -> SimulatedSet:
    """600 particles of 40 px in 20 defocus groups, shifted, SNR 0.1, noise of variance 1."""
    settings = SimulationSettings(particles=600, box=40, seed=2, snr=0.1, max_shift_px=1.5, defocus_groups=20)
    return simulate(make_molecule(3, mass_kda=60), settings)
