"""No command writes over what it reads, nor over the files of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clarice.cli.app import app
from clarice.core.errors import UsageError
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.metrics.masks import soft_sphere
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation
from clarice.pipeline.run_record import RunRecord, StageRecord

COMMANDS = {
    "abinitio": ("abinitio", "particles.star"),
    "refine": ("refine", "particles.star", "--map", "abinitio.mrc"),
    "refine, its map": ("refine", "other.star", "--map", "map.mrc"),
    "classify": ("classify", "class_members.star"),
    "denoise": ("denoise", "denoised.star"),
    "denoise, its images": ("denoise", "other.star"),
    "postprocess": ("postprocess", "half1.mrc", "half2.mrc", "--mask", "mask.mrc"),
    "simulate": ("simulate", "--map", "map.mrc", "--particles", "3", "--box", "16"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and maps by the names that commands write, every one of them."""
    folder = tmp_path_factory.mktemp("source")
    settings = SimulationSettings(particles=120, box=24, seed=3, snr=1.0, defocus_groups=4)
    simulated = simulate(make_molecule(2, mass_kda=80), settings)
    write_simulation(simulated, folder, contrast="bright", specimen="made")
    for name in ("truth.star", "simulation.json", "clean.mrcs"):
        (folder / name).unlink()
    shutil.copy(folder / "particles.mrcs", folder / "denoised.mrcs")
    particles = open_particles(folder / "particles.star")
    for name in ("class_members.star", "denoised.star", "posed.star"):
        write_particles(particles, folder / name, poses=simulated.poses, class_number=np.arange(120) % 3 + 1)
    write_particles(particles, folder / "other.star", images_path=folder / "denoised.mrcs")
    shutil.copy(folder / "map.mrc", folder / "abinitio.mrc")
    volume, pixel_size = read_mrc(folder / "map.mrc")
    for seed, name in enumerate(("half1.mrc", "half2.mrc")):
        noise = np.random.default_rng(seed).normal(size=volume.shape) * volume.std()
        write_mrc(folder / name, volume + noise, pixel_size, is_volume=True)
    write_mrc(folder / "mask.mrc", soft_sphere(24, 8, 3), pixel_size, is_volume=True)
    return folder


@pytest.fixture
def folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a copy of the source."""
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(*words: str) -> str:
    """The sentence of the UsageError that `clarice WORDS` ends in."""
    result = CliRunner().invoke(app, list(words))
    assert isinstance(result.exception, UsageError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_read_is_not_overwritten(folder: Path, command: str) -> None:
    before = contents(folder)
    assert "is read from, which would be overwritten" in refusal(*COMMANDS[command], "-o", ".")
    assert contents(folder) == before


def test_a_link_to_what_is_read_is_known(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "particles.star").symlink_to(folder / "particles.star")
    assert "particles.star is read from" in refusal("abinitio", "particles.star", "-o", "out")


@pytest.mark.parametrize("words", [*COMMANDS.values(), ("reconstruct", "posed.star")], ids=lambda words: words[0])
def test_the_files_of_a_run_are_not_overwritten(folder: Path, words: tuple[str, ...]) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text("{}")
    assert "is the folder of a run" in refusal(*words, "-o", "run")
    assert [path.name for path in (folder / "run").iterdir()] == ["run.json"]


def test_files_by_names_of_ones_own_are_kept_apart_too(folder: Path) -> None:
    before = contents(folder)
    evaluate = ("evaluate", "map", "map.mrc", "--truth", "abinitio.mrc")
    for words in (
        ("select", "class_members.star", "--classes", "1", "-o", "class_members.star"),
        ("select", "class_members.star", "--classes", "1", "--stack", "posed.star", "-o", "posed.star"),
        ("select", "class_members.star", "--classes", "1", "-o", "new.star", "--json", "class_members.star"),
        (*evaluate, "--registered", "map.mrc"),
        (*evaluate, "--json", "abinitio.mrc"),
        ("evaluate", "halves", "half1.mrc", "half2.mrc", "--json", "half2.mrc"),
        ("evaluate", "poses", "posed.star", "--truth", "denoised.star", "--json", "posed.star"),
        ("check", "particles.star", "--json", "particles.star"),
    ):
        assert "is a file that is read, and would be overwritten" in refusal(*words)
    assert contents(folder) == before


def test_a_selection_may_lie_in_a_run_but_not_replace_the_runs(folder: Path) -> None:
    run = folder / "run"
    run.mkdir()
    record = RunRecord("clarice run", {}, 0, {})
    record.put(StageRecord("select", "done", "now", "hash", outputs=["selected.star"]))
    record.save(run)
    (run / "selected.star").write_text("the run's")
    select = ("select", "class_members.star", "--classes", "1", "-o")
    assert "is a file of the run in run" in refusal(*select, "run/selected.star")
    assert (run / "selected.star").read_text() == "the run's"
    for _ in range(2):  # its own earlier output is no hindrance
        assert CliRunner().invoke(app, [*select, "run/mine.star"]).exit_code == 0
    assert len(open_particles(run / "mine.star")) == 40
