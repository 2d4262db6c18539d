"""The Python of the pages runs as printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["tutorial.md"])
def test_examples_run_in_order(
    page: str,
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(small_data, tmp_path / "tutorial" / "data")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    blocks = python_blocks(ROOT / "docs" / page)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    printed = capsys.readouterr().out
    assert "300 particles of 32 px" in printed
    assert "(4, 32, 32)" in printed


def test_the_first_example_of_the_readme_runs(
    small_data: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder where that run is already finished, so that it only has to be found up to date."""
    for name in ("particles.star", "particles.mrcs"):
        shutil.copy(small_data / name, tmp_path / name)
    shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for block in python_blocks(ROOT / "README.md"):
        exec(compile(block, "README.md", "exec"), {})


def test_the_example_of_the_interface_catches_what_is_missing(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (small_data / "particles.star").read_text(encoding="utf-8")
    (tmp_path / "particles.star").write_text(table.replace("_rlnImagePixelSize", "_rlnOther"), encoding="utf-8")
    shutil.copy(small_data / "particles.mrcs", tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(ROOT / "docs" / "api.md")
    assert blocks
    for block in blocks:
        exec(compile(block, "api.md", "exec"), {})
    assert "has no pixel size" in capsys.readouterr().out
