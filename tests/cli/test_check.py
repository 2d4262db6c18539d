"""`clarice check` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from clarice.cli import check as command
from clarice.core.errors import InputError, UsageError
from clarice.io.mrc import write_mrc


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


def test_unknown_choices_are_refused(app: typer.Typer, tmp_path: Path) -> None:
    bright_blobs(tmp_path / "s.mrcs")
    with pytest.raises(UsageError, match="--contrast grey is not known: use bright or dark"):
        app(["check", str(tmp_path / "s.mrcs"), "--contrast", "grey"], standalone_mode=False)
    with pytest.raises(UsageError, match="raw, flipped or multiplied"):
        app(["check", str(tmp_path / "s.mrcs"), "--ctf-state", "x"], standalone_mode=False)
