"""`clarice check` as a user calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

from clarice.cli import check as command
from clarice.cli.app import main
from clarice.core.errors import InputError, UsageError
from clarice.io.mrc import write_mrc
from clarice.io.star import write_star


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer(pretty_exceptions_enable=False)
    application.callback()(lambda: None)
    command.register(application)
    return application


def bright_blobs(path: Path) -> None:
    offsets = np.arange(24) - 12
    blob = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / 18)
    images = np.random.default_rng(0).normal(size=(60, 24, 24)) + blob
    write_mrc(path, images, 2.0)


def test_usable_stack(app: typer.Typer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bright_blobs(tmp_path / "s.mrcs")
    app(["check", str(tmp_path / "s.mrcs"), "--json", str(tmp_path / "v.json")], standalone_mode=False)
    printed = capsys.readouterr().out
    for word in ("60", "24 px", "2 Å", "protein bright", "verdict: usable"):
        assert word in printed
    saved = json.loads((tmp_path / "v.json").read_text())
    assert saved["usable"] is True
    assert saved["contrast"]["sign"] == "bright"
    assert saved["images"]["scanned"] == 60


def test_ambiguous_stack_exits_with_2_and_the_flag(app: typer.Typer, tmp_path: Path) -> None:
    write_mrc(tmp_path / "n.mrcs", np.random.default_rng(0).normal(size=(40, 16, 16)), 2.0)
    with pytest.raises(UsageError, match="--contrast bright or --contrast dark") as caught:
        app(["check", str(tmp_path / "n.mrcs")], standalone_mode=False)
    assert caught.value.exit_code == 2
    app(["check", str(tmp_path / "n.mrcs"), "--contrast", "dark"], standalone_mode=False)


def test_what_cannot_be_used_exits_with_3(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "x.star").write_text("nonsense")
    with pytest.raises(InputError, match="not a STAR file") as caught:
        app(["check", str(tmp_path / "x.star"), "--json", str(tmp_path / "v.json")], standalone_mode=False)
    assert caught.value.exit_code == 3
    assert json.loads((tmp_path / "v.json").read_text())["kind"] == "broken"


def test_a_failed_check_says_its_problem_once_and_does_not_contradict_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem is the sentence that the program ends with; the table and the warnings stand before it."""
    bright_blobs(tmp_path / "s.mrcs")
    columns = {"rlnImageName": [f"{row + 1:06d}@s.mrcs" for row in range(60)], "rlnImagePixelSize": 2.0}
    columns |= {"rlnVoltage": 300.0, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.1}
    write_star(tmp_path / "s.star", {"particles": pd.DataFrame({**columns, "rlnDefocusV": 9000.0})})
    monkeypatch.setattr(sys, "argv", ["clarice", "check", str(tmp_path / "s.star")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    printed = capfd.readouterr()
    assert "the CTF columns are incomplete: _rlnDefocusU, _rlnDefocusAngle missing" in printed.err
    assert "the CTF columns are incomplete" not in printed.out
    assert "no CTF is known" not in printed.out
    assert "CTF            incomplete (_rlnDefocusU, _rlnDefocusAngle missing)" in printed.out
    assert "(1 image file)" in printed.out


def test_further_problems_are_listed_besides_the_first(
    app: typer.Typer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).normal(size=(40, 16, 16))
    images[3], images[5, 2, 2] = 1.0, np.nan
    write_mrc(tmp_path / "n.mrcs", images, 2.0)
    with pytest.raises(InputError, match=r"absurdly large values in 1 image \(rows 6\)"):
        app(["check", str(tmp_path / "n.mrcs")], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "also: no content but one constant in 1 image (rows 4)" in printed
    assert "also: the images do not tell whether protein is bright or dark" in printed


def test_images_in_both_half_sets_are_warned_of(
    app: typer.Typer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bright_blobs(tmp_path / "s.mrcs")
    names = [f"{row % 50 + 1:06d}@s.mrcs" for row in range(60)]
    columns = {"rlnImageName": names, "rlnImagePixelSize": 2.0, "rlnRandomSubset": [1] * 52 + [2] * 8}
    write_star(tmp_path / "s.star", {"particles": pd.DataFrame(columns)})
    app(["check", str(tmp_path / "s.star")], standalone_mode=False)
    assert "10 rows repeat an image of another row" in (printed := capsys.readouterr().out)
    assert "(8 images in both half sets of the file)" in printed


def test_unknown_choices_are_refused(app: typer.Typer, tmp_path: Path) -> None:
    bright_blobs(tmp_path / "s.mrcs")
    with pytest.raises(UsageError, match="--contrast grey is not known: use bright or dark"):
        app(["check", str(tmp_path / "s.mrcs"), "--contrast", "grey"], standalone_mode=False)
    with pytest.raises(UsageError, match="raw, flipped or multiplied"):
        app(["check", str(tmp_path / "s.mrcs"), "--ctf-state", "x"], standalone_mode=False)
