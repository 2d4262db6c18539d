"""Paths are printed as they are: brackets are no markup, words between colons no pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pooch
import pytest
from typer.testing import CliRunner

from clarice.cli.app import app
from clarice.io.mrc import write_mrc

NAMES = ("run[old]", "[/x]", "[bold]", ":cat:")


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made: Path = tmp_path / request.param
    made.mkdir(parents=True)
    return made


def printed(*words: object) -> str:
    """What `clarice WORDS` prints, without blanks and line ends: tables fold long paths."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return "".join(result.output.split())


def test_a_report_is_named(folder: Path) -> None:
    (folder / "run.json").write_text('{"version": "0.1.0"}')
    assert printed("report", folder) == str(folder / "report.html")


def test_a_simulated_set_and_its_check_are_named(folder: Path) -> None:
    made = printed("simulate", "-o", folder, "--particles", "60", "--box", "24", "--snr", "1", "--mass-kda", "80")
    table = folder / "particles.star"
    assert made.endswith(f":{table}")
    assert str(table) in printed("check", table, "--contrast", "bright")


def test_figures_name_what_was_judged(folder: Path) -> None:
    images = np.random.default_rng(1).normal(size=(3, 16, 16)).astype(np.float32)
    write_mrc(folder / "images.mrcs", images, 2.0, is_volume=False)
    path = folder / "images.mrcs"
    assert str(path) in printed("evaluate", "images", path, "--truth", path)


def test_fetched_files_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: object, url: str, output_file: str, downloader: object) -> None:
        Path(output_file).write_bytes(b"content")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    target = folder / "4v1w.cif.gz"
    assert f"{target}:0.0MB" in printed("fetch", "pdb", "4v1w", "-o", folder)
    assert f"{target}isalreadythere" in printed("fetch", "pdb", "4v1w", "-o", folder)
