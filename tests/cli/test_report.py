"""`clarice report`."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clarice.cli.report import register
from clarice.core.errors import InputError


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    register(made)
    return made


def test_it_writes_the_page_and_prints_where(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"version": "0.1.0"}')
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 0, result.output
    page = tmp_path / "report.html"
    assert result.output.strip() == str(page)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("run.json", "report.html")] == []


def test_a_folder_without_a_run_is_one_sentence(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "clarice run" in str(result.exception)
    assert "\n" not in str(result.exception)
