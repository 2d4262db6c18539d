"""The protocol on real particles: both rows of a network, from what the program tells of itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clarice.benchmark import real_particles as protocol
from clarice.benchmark.real_particles import APOFERRITIN, MAP, SHIPPED, TUNED, RealRequest, real
from clarice.benchmark.structures import load_subject, structures_folder
from clarice.cli.app import app
from clarice.core.errors import ClariceError, InputError
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles
from clarice.physics.potential import atoms_to_volume

BOX, PIXEL = 32, 4.0
# Writes what `clarice finetune` and `clarice run` write, the map being a copy of one beside the particles. Fine-tuning
# counts its calls in its folder, and gains nothing from more than 9,000 images.
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
    assert "CLARICE_WEIGHTS" not in os.environ
    with (out / "calls").open("a") as calls:
        calls.write("x")
    images = int(options["--images"])
    told = {"images": images, "seconds": 7.5, "before": 1.002, "after": 0.99, "nothing": 1.0, "gain": 0.012,
            "error": 0.001, "frc_before": [0.1] * 17, "frc_after": [0.7] * 17, "noise_before": 0.4,
            "noise_after": 0.001, "better": images < 9000, "sentence": "no gain beyond chance"}
    (out / "finetuning.json").write_text(json.dumps(told))
else:
    tuned = "tuned-" in os.environ.get("CLARICE_WEIGHTS", "")
    assert tuned == (out / "map.mrc").exists(), "the second run goes on in the folder of the first"
    assert options["--symmetry"] == "C2" and options["--diameter"] == "90"
    kinds = [{"kind": "particles", "power_share": 1.0}, {"kind": "pure noise", "power_share": 0.02 if tuned else 0.6}]
    (out / "controls.json").write_text(json.dumps({"kinds": kinds, "invents": not tuned}))
    gains = {f"gain_over_{kind}": [20.0, 1.0] for kind in ("noise", "random_phases", "wrong_molecule")}
    (out / "map_controls.json").write_text(json.dumps({**gains, "doubtful": False}))
    (out / "fsc.json").write_text(json.dumps({"resolution_angstrom": {"0.143": 9.0}}))
    shutil.copy(star.with_name("map.mrc"), out / "map.mrc")
"""


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealRequest:
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
    return RealRequest(
        data=tmp_path / "data",
        out=tmp_path / "out",
        work=tmp_path / "work",
        methods=("polar-transformer",),
        images=5000,
        threads=1,
        program=program,
        timeout_seconds=60,
        stack=stack,
    )


def test_a_network_is_judged_as_shipped_and_fine_tuned(
    request_of: RealRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARICE_WEIGHTS", "/other/weights")
    shipped, tuned, of_map = real(request_of, shown=lambda _: None).rows
    assert [row["weights"] for row in (shipped, tuned, of_map)] == [SHIPPED, TUNED, MAP]
    assert (shipped["over_zeros"], tuned["over_zeros"]) == (pytest.approx(0.002), pytest.approx(-0.01))
    assert (shipped["disjoint_frc"], tuned["disjoint_frc"]) == (pytest.approx(0.1), pytest.approx(0.7))
    assert (shipped["noise_power"], tuned["noise_power"]) == (0.6, 0.02)
    assert (shipped["verdict"], tuned["verdict"], of_map["verdict"]) == ("invents", "sound", "sound")
    assert (tuned["images"], tuned["gain"], tuned["seconds"]) == (5000, 0.012, 7.5)
    # The map is the structure itself, once pixels are as large as they are; a ball of its size is not.
    assert of_map["mean_fsc"] > 0.99
    assert of_map["mean_fsc_round"] < 0.8
    assert of_map["mean_fsc_rest"] > 0.98
    assert of_map["fsc_05_angstrom"] == pytest.approx(2 * PIXEL, rel=0.01)
    assert of_map["stated_angstrom"] == pytest.approx(9.9)
    assert of_map["over_phases"] == 20.0
    record = json.loads((request_of.out / "real.json").read_text())
    assert "gain 0.0120 ± 0.0010" in record["summary"]["polar-transformer"]
    assert str(request_of.work) not in (request_of.out / "real.json").read_text()


def test_a_wrong_pixel_size_shows_in_the_agreement(request_of: RealRequest) -> None:
    stated = replace(request_of, stack=replace(request_of.stack, pixel_scale=1.0))
    assert real(stated, shown=lambda _: None).rows[2]["mean_fsc"] < 0.95


def test_weights_that_gain_nothing_are_not_run(request_of: RealRequest) -> None:
    _, tuned, _ = real(replace(request_of, images=9500), shown=lambda _: None).rows
    assert tuned["note"] == "not kept: no gain beyond chance"
    assert "noise_power" not in tuned


def test_a_resumed_call_keeps_what_is_tuned_and_others_begin_anew(request_of: RealRequest) -> None:
    calls = request_of.work / "real" / "molecule" / "polar-transformer" / "tuned-5000-0" / "calls"
    two = replace(request_of, methods=("polar-transformer", "unet"))
    rows = real(two, shown=lambda _: None).rows
    assert [row.get("failed", False) for row in rows] == [False] * 3 + [True] * 2
    assert all("no weights of unet" in row["note"] for row in rows[3:])
    assert calls.read_text() == "x"
    real(replace(two, resume=True), shown=lambda _: None)
    assert calls.read_text() == "x"  # its rows are there
    (two.out / "real.json").unlink()
    real(replace(two, resume=True), shown=lambda _: None)
    assert calls.read_text() == "xx"
    real(two, shown=lambda _: None)
    assert calls.read_text() == "x"


def test_missing_particles_and_data_are_told(request_of: RealRequest, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing: name the folder"):
        real(replace(request_of, data=tmp_path / "none"), shown=lambda _: None)
    for words, told in (
        ([], "--data"),
        (["--data", str(tmp_path), "--methods", ","], "names no network"),
        (["--data", str(tmp_path), "--methods", "structures"], "does not hold the weights of a denoiser"),
    ):
        result = CliRunner().invoke(app, ["benchmark", "real", *words], env={"CLARICE_DATA": ""})
        assert isinstance(result.exception, ClariceError)
        assert told in str(result.exception)


def test_real_apoferritin_and_its_structure_are_where_they_are_looked_for(shared_data: Path, tmp_path: Path) -> None:
    request = RealRequest(data=shared_data, out=tmp_path, work=tmp_path)
    particles = open_particles(request.star)
    assert (len(particles), particles.box) == (1620, 64)
    atoms = load_subject(request.stack.entry, structures_folder(shared_data)).atoms
    reach = np.linalg.norm(atoms.positions_angstrom, axis=1).max()
    assert 2 * reach == pytest.approx(request.stack.diameter_angstrom, rel=0.1)
