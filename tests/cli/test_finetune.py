"""`clarice finetune`: which particles it takes, what it refuses, and weights that denoise afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from tests.denoise.sampling_weights import write_random_weights
from tests.training.runs import quick

from clarice.abinitio.half_sets import all_half_sets
from clarice.cli.finetune import finetune
from clarice.core.errors import UsageError
from clarice.denoise.trained import load_trained
from clarice.io.stack import open_particles
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation

__all__ = ["quick"]  # a fixture


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Particles on disk, half of them in either half set, and small random weights."""
    monkeypatch.setenv("CLARICE_WEIGHTS", str(tmp_path))
    write_random_weights(tmp_path)
    made = simulate(make_molecule(3, mass_kda=60), SimulationSettings(particles=60, box=24, seed=7, snr=0.5))
    write_simulation(made, tmp_path / "set", specimen="a molecule")
    star = tmp_path / "set" / "particles.star"
    text = star.read_text().replace("_rlnPhaseShift #7", "_rlnPhaseShift #7\n_rlnRandomSubset #8")
    rows = [
        f"{line} {1 + number % 2}" if "@particles" in line else line for number, line in enumerate(text.splitlines())
    ]
    star.write_text("\n".join(rows) + "\n")
    return star


def run(stack: Path, out: Path, **more: object) -> None:
    with pytest.raises(typer.Exit) as ended:
        finetune(stack, out, **{"contrast": "bright", "ctf_state": "raw", "working_box": 24, "images": 96, **more})  # type: ignore[arg-type]
    assert ended.value.exit_code == 0


@pytest.mark.usefixtures("quick")
def test_weights_are_written_and_told_of(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run(stack, out)
    told = " ".join(capsys.readouterr().out.split())
    assert "held-out error" in told
    tuned = load_trained(out / "weights" / "polar-transformer.safetensors")
    assert tuned.card["finetuned"]["recipe"]["particles"] == 60
    run(stack, out)  # nothing is left to do, and the verdict is the same
    assert "held-out error" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("quick")
def test_a_half_set_is_trained_on_alone(stack: Path, tmp_path: Path) -> None:
    run(stack, tmp_path / "half", half=2, network="polar-transformer")
    card = load_trained(tmp_path / "half" / "weights" / "polar-transformer.safetensors").card
    assert card["finetuned"]["recipe"]["particles"] == 30


@pytest.mark.usefixtures("quick")
def test_half_sets_that_no_table_names_are_those_of_a_run(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.write_text(stack.read_text().replace("_rlnRandomSubset", "_rlnOther"))
    run(stack, tmp_path / "half", half=1, seed=5)
    assert "assigns with --seed 5" in " ".join(capsys.readouterr().out.split())
    card = load_trained(tmp_path / "half" / "weights" / "polar-transformer.safetensors").card
    assert card["finetuned"]["recipe"]["particles"] == (all_half_sets(open_particles(stack), 5) == 1).sum()


def test_what_cannot_be_is_refused(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--shown 1 must lie between"):
        finetune(stack, tmp_path / "out", shown=1.0)
    with pytest.raises(UsageError, match="diffusion cannot be fine-tuned"):
        finetune(stack, tmp_path / "out", network="diffusion", contrast="bright", ctf_state="raw", working_box=24)
    with pytest.raises(UsageError, match=r"--least-shown 0\.9 is more than --shown 0\.8"):
        finetune(stack, tmp_path / "out", least_shown=0.9)
    assert not (tmp_path / "out" / "weights").exists()
