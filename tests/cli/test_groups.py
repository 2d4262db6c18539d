"""What `clarice` and its groups of commands say when they are called alone, and by which status commands end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from clarice.cli.app import app, main
from clarice.core.errors import UsageError
from clarice.core.seeds import LARGEST_SEED
from clarice.pipeline import denoised_files, denoised_notes
from clarice.pipeline.job_settings import UNTIL_NAMES

ROOT = Path(__file__).resolve().parents[2]


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below `group`, with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "`clarice` needs one of its commands: run, check, simulate"),
        (("evaluate",), "`clarice evaluate` needs one of its commands: map, halves, images, poses, classes"),
        (("benchmark",), "`clarice benchmark` needs one of its commands: main-job, peers"),
    ],
)
def test_a_group_alone_prints_its_help_and_a_sentence(
    words: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["clarice", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == UsageError.exit_code
    printed = capsys.readouterr()
    assert "Usage: clarice" in printed.out
    assert named in printed.err


@pytest.mark.parametrize("words", [["--help"], ["evaluate", "--help"], ["--version"], ["evaluate", "map", "--help"]])
def test_asking_for_help_is_no_error(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "needs one of" not in result.output


@pytest.mark.parametrize("seed", ["-1", str(LARGEST_SEED), "2.5"])
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (words, option)
        for words, made in ALL.items()
        for option in ("--seed", "--molecule")
        if any(option in parameter.opts for parameter in made.params)
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else words,
)
def test_a_seed_that_nothing_can_be_drawn_by_is_refused(words: tuple[str, ...], option: str, seed: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        ALL[words].make_context("clarice", [option, seed])
    assert caught.value.format_message().startswith(f"Invalid value for '{option}'")


def test_the_page_of_commands_lists_each() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert {words[0] for words in ALL if f"`clarice {words[0]}" not in page} == set()


def test_every_file_of_denoising_is_listed() -> None:
    names = (denoised_files.IMAGES, denoised_files.TABLE, denoised_notes.NOTES, denoised_notes.ERRORS)
    for page in ("docs/commands.md", "README.md"):
        rows = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        assert {name for name in names if not any(f"`{name}`" in row for row in rows)} == set()


def test_the_help_of_run_names_every_stage() -> None:
    shown = " ".join(CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "300"}).output.split())
    assert f"Stop after this stage: {', '.join(UNTIL_NAMES[:-1])} or {UNTIL_NAMES[-1]}" in shown
