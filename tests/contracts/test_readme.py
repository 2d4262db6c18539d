"""What the pages tell people to type exists and is understood."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

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


def understand(words: list[str]) -> None:
    """Parses a command line as the program would, without running it."""
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name="clarice")
    while isinstance(command, click.Group):
        inner = command.get_command(context, words[0])
        assert inner is not None, f"no command named {words[0]}"
        command, words = inner, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    command.make_context(command.name, list(words), parent=context.parent)


def test_readme_starts_with_commands() -> None:
    assert len(list(typed_lines(ROOT / "README.md"))) >= 3


@pytest.mark.parametrize(("page", "line"), commands("clarice"))
def test_commands_are_understood(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)[1:]
    for word in words:
        path = tmp_path / word
        if re.search(r"\.(star|cs|mrcs?|json|npz|cif|pdb)$", word):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    understand(words)


@pytest.mark.parametrize("line", ["clarice runn x.star", "clarice run x.star -o out --no-such-option"])
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        understand(line.split()[1:])


@pytest.mark.parametrize(("page", "line"), commands("make"))
def test_make_targets_exist(page: str, line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in line.split()[1:]:
        assert "=" in target or re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in inside if not (page.parent / link).exists()] == []
