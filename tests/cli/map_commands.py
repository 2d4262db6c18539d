"""The commands that make maps, called in this process on a small stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clarice.cli import abinitio, reconstruct, refine
from clarice.core.errors import ClariceError
from clarice.io.stack import open_particles, write_particles
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation

BOX, COUNT = 32, 200


@dataclass(frozen=True)
class SmallStack:
    """A stack with and without poses in its table, and the truth behind it."""

    table: Path
    with_poses: Path
    simulated: SimulatedSet

    @property
    def pixel_size_angstrom(self) -> float:
        return self.simulated.particles.pixel_size_angstrom


def make_stack(folder: Path, snr: float = 1.0) -> SmallStack:
    settings = SimulationSettings(particles=COUNT, box=BOX, seed=4, snr=snr, max_shift_px=1.0, defocus_groups=8)
    simulated = simulate(make_molecule(1, mass_kda=150), settings)
    write_simulation(simulated, folder, contrast="dark", specimen="a molecule")
    with_poses = folder / "posed.star"
    write_particles(open_particles(folder / "particles.star"), with_poses, poses=simulated.poses)
    return SmallStack(folder / "particles.star", with_poses, simulated)


def run(*arguments: str | Path) -> str:
    """What `clarice ARGUMENTS` prints; raises the error it ends in."""
    app = typer.Typer()
    for module in (abinitio, refine, reconstruct):
        module.register(app)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, ClariceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def refusal(kind: type[ClariceError], output: Path, *arguments: str | Path) -> str:
    """The one sentence of the error that `clarice ARGUMENTS -o OUTPUT` ends in, with nothing written."""
    with pytest.raises(kind) as caught:
        run(*arguments, "-o", output, "--contrast", "dark")
    assert not output.is_dir() or not list(output.iterdir())
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence
