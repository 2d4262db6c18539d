"""The protocol on real particles: both rows of a network, from what the program tells of itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clarice.benchmark import experimental as protocol
from clarice.benchmark.experimental import APOFERRITIN, SHIPPED, TUNED, ExperimentalRequest, experimental
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.cli.app import app
from clarice.core.errors import ClariceError, InputError
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles
from clarice.physics.potential import atoms_to_volume

BOX, PIXEL = 32, 4.0
# Writes what `clarice finetune` and `clarice run` write, the map being a copy of one beside the particles.
FAKE = """
import json, os, shutil, sys
from pathlib import Path
command, star, words = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
options = dict(zip(words[::2], words[1::2]))
out = Path(options["-o"])
if options.get("--network") == "unet":
    sys.exit("clarice: no weights of unet")
out.mkdir(exist_ok=True)
if command == "finetune":
    told = {"images": int(options["--images"]), "seconds": 7.5, "before": 1.002, "after": 0.99, "nothing": 1.0,
            "gain": 0.012, "error": 0.001, "frc_before": [0.1] * 17, "frc_after": [0.7] * 17, "noise_before": 0.4,
            "noise_after": 0.001, "better": True, "sentence": "kept"}
    (out / "finetuning.json").write_text(json.dumps(told))
else:
    tuned = os.environ.get("CLARICE_WEIGHTS", "").endswith("tuned/weights")
    assert options["--symmetry"] == "C2" and options["--diameter"] == "90"
    kinds = [{"kind": "particles", "power_share": 1.0}, {"kind": "pure noise", "power_share": 0.02 if tuned else 0.6}]
    (out / "controls.json").write_text(json.dumps({"kinds": kinds, "invents": not tuned}))
    gains = {f"gain_over_{kind}": [20.0, 1.0] for kind in ("noise", "random_phases", "wrong_molecule")}
    (out / "map_controls.json").write_text(json.dumps({**gains, "doubtful": False}))
    (out / "fsc.json").write_text(json.dumps({"resolution_angstrom": {"0.143": 9.0}}))
    shutil.copy(star.with_name("map.mrc"), out / "map.mrc")
"""


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentalRequest:
    """Particles of molecule-105, whose map's table states pixels a tenth too small."""
    monkeypatch.setattr(protocol, "structures_folder", lambda _: None)
    folder = tmp_path / "data" / "particles"
    folder.mkdir(parents=True)
    (folder / "particles.star").write_text("data_\n")
    atoms = load_subject("molecule-105", None).atoms
    write_mrc(folder / "map.mrc", atoms_to_volume(atoms, BOX, PIXEL).numpy(), PIXEL / 1.1, is_volume=True)
    stack = replace(
        APOFERRITIN,
        name="molecule",
        star="particles/particles.star",
        entry="molecule-105",
        symmetry="C2",
        diameter_angstrom=90.0,
        pixel_scale=1.1,
    )
    (tmp_path / "fake.py").write_text(FAKE)
    program = (sys.executable, str(tmp_path / "fake.py"))
    return ExperimentalRequest(
        tmp_path / "data",
        tmp_path / "out",
        tmp_path / "work",
        ("polar-transformer",),
        5000,
        threads=1,
        program=program,
        timeout_seconds=60,
        stack=stack,
    )


def test_a_network_is_judged_as_shipped_and_fine_tuned(request_of: ExperimentalRequest) -> None:
    shipped, tuned = experimental(request_of, shown=lambda _: None).rows
    assert (shipped["weights"], tuned["weights"]) == (SHIPPED, TUNED)
    assert (shipped["over_zeros"], tuned["over_zeros"]) == (pytest.approx(0.002), pytest.approx(-0.01))
    assert (shipped["disjoint_frc"], tuned["disjoint_frc"]) == (pytest.approx(0.1), pytest.approx(0.7))
    assert (shipped["noise_power"], tuned["noise_power"]) == (0.6, 0.02)
    assert (shipped["denoiser_verdict"], tuned["denoiser_verdict"]) == ("invents", "sound")
    assert (tuned["images"], tuned["gain"], tuned["tuning_seconds"]) == (5000, 0.012, 7.5)
    for row in (shipped, tuned):  # the map is the structure itself, once pixels are as large as they are
        assert row["mean_fsc"] > 0.99
        assert row["fsc_05_angstrom"] == pytest.approx(2 * PIXEL, rel=0.01)
        assert (row["stated_angstrom"], row["over_phases"], row["map_verdict"]) == (9.0, 20.0, "sound")
    record = json.loads((request_of.out / "experimental.json").read_text())
    assert "gain 0.0120 ± 0.0010" in record["summary"]["polar-transformer"]
    assert str(request_of.work) not in (request_of.out / "experimental.json").read_text()


def test_a_wrong_pixel_size_shows_in_the_agreement(request_of: ExperimentalRequest) -> None:
    stated = replace(request_of, stack=replace(request_of.stack, pixel_scale=1.0))
    assert experimental(stated, shown=lambda _: None).rows[0]["mean_fsc"] < 0.95


def test_a_tuning_that_fails_is_two_rows_that_say_why(request_of: ExperimentalRequest) -> None:
    rows = experimental(replace(request_of, methods=("unet",)), shown=lambda _: None).rows
    assert [row["failed"] for row in rows] == [True, True]
    assert all("no weights of unet" in row["note"] for row in rows)


def test_missing_particles_and_data_are_told(request_of: ExperimentalRequest, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing: name the folder"):
        experimental(replace(request_of, data=tmp_path / "none"), shown=lambda _: None)
    for words, told in (
        ([], "--data"),
        (["--data", str(tmp_path), "--methods", ","], "names no network"),
        (["--data", str(tmp_path), "--methods", "structures"], "does not hold the weights of a denoiser"),
    ):
        result = CliRunner().invoke(app, ["benchmark", "experimental", *words], env={"CLARICE_DATA": ""})
        assert isinstance(result.exception, ClariceError)
        assert told in str(result.exception)


def test_real_apoferritin_and_its_structure_are_where_they_are_looked_for(shared_data: Path, tmp_path: Path) -> None:
    request = ExperimentalRequest(shared_data, tmp_path, tmp_path)
    particles = open_particles(request.star)
    assert (len(particles), particles.box) == (1620, 64)
    atoms = load_subject(request.stack.entry, structures_folder(shared_data)).atoms
    reach = np.linalg.norm(atoms.positions_angstrom, axis=1).max()
    assert 2 * reach == pytest.approx(request.stack.diameter_angstrom, rel=0.1)
