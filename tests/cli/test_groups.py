"""What `clarice` and its groups of commands say when they are called alone, and by which status commands end."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from clarice.cli.app import app, main
from clarice.core.errors import UsageError
from clarice.pipeline.job_settings import UNTIL_NAMES


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


def test_the_help_of_run_names_every_stage() -> None:
    shown = " ".join(CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output.split())
    assert f"Stop after this stage: {', '.join(UNTIL_NAMES[:-1])} or {UNTIL_NAMES[-1]}" in shown
