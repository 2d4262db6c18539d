"""`clarice simulate`: the files it writes, what they say, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from clarice.cli import simulate as command
from clarice.core.errors import ClariceError, InputError, OutputError, ResourceError, UsageError
from clarice.geometry.so3 import euler_to_matrix
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.star import floats, read_star
from clarice.physics.molecules import make_molecule
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import FILES

OPTIONS = ["--molecule", "3", "--mass-kda", "60", "--particles", "12", "--box", "32", "--seed", "4"]


def run(*arguments: str) -> str:
    """Runs the command; an error of Clarice's is raised as it is."""
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, ClariceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_data_set_is_whole_and_agrees_with_itself(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert "12 particles of procedural molecule 3" in run("-o", str(out), *OPTIONS)
    assert {path.name for path in out.iterdir()} == {
        "particles.mrcs",
        "particles.star",
        "clean.mrcs",
        "map.mrc",
        "truth.star",
        "simulation.json",
    }
    expected = simulate(make_molecule(3, mass_kda=60), SimulationSettings(particles=12, box=32, seed=4))
    images, pixel_size = read_mrc(out / "particles.mrcs")
    assert pixel_size == pytest.approx(expected.particles.pixel_size_angstrom, rel=1e-5)
    np.testing.assert_allclose(images, expected.images, atol=1e-6)
    np.testing.assert_allclose(read_mrc(out / "clean.mrcs")[0], expected.clean, atol=1e-6)
    np.testing.assert_allclose(read_mrc(out / "map.mrc")[0], expected.volume, atol=1e-6)
    truth = read_star(out / "truth.star")["particles"]
    euler = np.stack([floats(truth, f"rlnAngle{name}", "truth") for name in ("Rot", "Tilt", "Psi")], axis=1)
    np.testing.assert_allclose(euler_to_matrix(euler), expected.poses.rotations, atol=1e-6)
    origin = np.stack([floats(truth, f"rlnOrigin{axis}Angst", "truth") for axis in "XY"], axis=1)
    np.testing.assert_allclose(origin / pixel_size, expected.poses.shifts_px, atol=1e-4)
    summary = json.loads((out / "simulation.json").read_text())
    assert summary["settings"]["snr"] == 0.1
    assert summary["pixel_size_angstrom"] == pytest.approx(pixel_size, rel=1e-5)


def test_the_particles_file_tells_no_truth(tmp_path: Path) -> None:
    run("-o", str(tmp_path), *OPTIONS)
    text = (tmp_path / "particles.star").read_text()
    assert "rlnAngle" not in text
    assert "rlnOrigin" not in text
    blocks = read_star(tmp_path / "particles.star")
    assert floats(blocks["optics"], "rlnVoltage", "particles")[0] == 300
    assert floats(blocks["particles"], "rlnDefocusU", "particles").min() > 5000


def test_dark_contrast_turns_the_sign_of_the_stacks(tmp_path: Path) -> None:
    run("-o", str(tmp_path / "bright"), *OPTIONS)
    run("-o", str(tmp_path / "dark"), *OPTIONS, "--contrast", "dark")
    for name in ("particles.mrcs", "clean.mrcs"):
        bright, dark = (read_mrc(tmp_path / kind / name)[0] for kind in ("bright", "dark"))
        np.testing.assert_array_equal(bright, -dark)
    np.testing.assert_array_equal(*(read_mrc(tmp_path / kind / "map.mrc")[0] for kind in ("bright", "dark")))


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run("-o", str(tmp_path / name), *OPTIONS, "--noise", "coloured")
    for file in ("particles.mrcs", "particles.star", "truth.star", "simulation.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_set_is_made_anew_over_an_earlier_one(tmp_path: Path) -> None:
    """Over one that was interrupted as well: what it had written of the truth tells it from data."""
    run("-o", str(tmp_path), *OPTIONS)
    before = (tmp_path / "particles.mrcs").read_bytes()
    for lost in ("simulation.json", "particles.mrcs", "particles.star"):
        (tmp_path / lost).unlink()
    for _ in range(2):
        run("-o", str(tmp_path), *OPTIONS)
    assert (tmp_path / "particles.mrcs").read_bytes() == before


@pytest.mark.parametrize("name", FILES[-2:])
def test_particles_that_no_simulation_made_are_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"of a microscope")
    with pytest.raises(OutputError, match=rf"holds {name} that no simulation made .*: name another folder"):
        run("-o", str(tmp_path), *OPTIONS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"of a microscope"}


def test_large_sets_go_through_files_and_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("-o", str(tmp_path / "a"), *OPTIONS)
    monkeypatch.setattr(command, "IN_MEMORY_BYTES", 0)
    run("-o", str(tmp_path / "b"), *OPTIONS)
    assert (tmp_path / "a" / "particles.mrcs").read_bytes() == (tmp_path / "b" / "particles.mrcs").read_bytes()
    assert len(list((tmp_path / "b").iterdir())) == 6


def test_without_ctf_the_star_file_describes_a_ctf_of_one(tmp_path: Path) -> None:
    run("-o", str(tmp_path), *OPTIONS, "--no-ctf")
    blocks = read_star(tmp_path / "particles.star")
    assert floats(blocks["optics"], "rlnAmplitudeContrast", "x")[0] == 1
    assert floats(blocks["optics"], "rlnSphericalAberration", "x")[0] == 0
    assert np.all(floats(blocks["particles"], "rlnDefocusU", "x") == 0)


def test_a_map_can_be_the_specimen(tmp_path: Path) -> None:
    run("-o", str(tmp_path / "first"), *OPTIONS)
    again = tmp_path / "again"
    run("-o", str(again), "--map", str(tmp_path / "first" / "map.mrc"), "--particles", "5", "--box", "32")
    first, _ = read_mrc(tmp_path / "first" / "map.mrc")
    second, _ = read_mrc(again / "map.mrc")
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        (["--map", "a.mrc", "--npz", "b.npz"], UsageError, "--map and --npz"),
        (["--npz", "b.npz"], UsageError, "--entry"),
        (["--entry", "1abc"], UsageError, "--npz"),
        (["--structure", "none.cif"], InputError, "none.cif"),
        (["--structure", "none.cif", "--symmetry", "C4"], UsageError, "--symmetry"),
        (["--snr", "0"], UsageError, "--snr"),
        (["--symmetry", "Z"], UsageError, "Z"),
        (["--ctf-table", "none.npz"], InputError, "none.npz"),
    ],
)
def test_refusals_name_what_to_mend(tmp_path: Path, arguments: list[str], error: type[ClariceError], word: str) -> None:
    with pytest.raises(error, match=word):
        run("-o", str(tmp_path / "out"), "--particles", "3", "--box", "16", *arguments)
    assert not list(tmp_path.glob("out/*"))


def test_maps_that_are_not_cubes_and_folders_that_are_files_are_refused(tmp_path: Path) -> None:
    write_mrc(tmp_path / "flat.mrc", np.zeros((4, 16, 16), dtype=np.float32), 2.0)
    with pytest.raises(InputError, match="cube"):
        run("-o", str(tmp_path / "out"), "--map", str(tmp_path / "flat.mrc"))
    write_mrc(tmp_path / "spoilt.mrc", np.full((16, 16, 16), np.nan, dtype=np.float32), 2.0, is_volume=True)
    with pytest.raises(InputError, match="not numbers"):
        run("-o", str(tmp_path / "out"), "--map", str(tmp_path / "spoilt.mrc"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        run("-o", str(tmp_path / "file"), *OPTIONS)


def test_a_set_larger_than_the_disk_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="needs"):
        run("-o", str(tmp_path), "--particles", "1000000000", "--box", "512")
    assert list(tmp_path.iterdir()) == []
