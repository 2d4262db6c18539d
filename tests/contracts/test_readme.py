"""What the pages tell people to type exists and is understood."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clarice.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def typed_lines(page: Path) -> Iterator[str]:
    """Commands in the page's shell blocks, continued lines joined, comments gone."""
    for block in FENCED.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ").strip()
            if command and not command.startswith("#"):
                yield command


def commands(program: str) -> list[tuple[str, str]]:
    """(page, command line) for every use of `program` in the pages, and in the Makefile for `clarice`."""
    found = [(str(page.relative_to(ROOT)), line) for page in PAGES for line in typed_lines(page)]
    if program == "clarice":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
        found += [("Makefile", line) for line in re.findall(r"\$\(BIN\)/(clarice .*)", makefile)]
    return [(page, line) for page, line in found if shlex.split(line, comments=True)[0].endswith(program)]


def understood(words: list[str]) -> bool:
    """Whether the program knows the command and all its options; `--help` keeps it from doing the work."""
    return CliRunner().invoke(app, [*words, "--help"]).exit_code == 0


def test_readme_starts_with_commands() -> None:
    assert len(list(typed_lines(ROOT / "README.md"))) >= 3


@pytest.mark.parametrize(("page", "line"), commands("clarice"))
def test_commands_are_understood(page: str, line: str) -> None:
    assert understood(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("line", ["runn x.star", "check x.star --no-such-option", "evaluate mop a.mrc b.mrc"])
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    assert not understood(line.split())


@pytest.mark.parametrize(("page", "line"), commands("make"))
def test_make_targets_exist(page: str, line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in shlex.split(line, comments=True)[1:]:
        assert "=" in target or re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in inside if not (page.parent / link).exists()] == []
