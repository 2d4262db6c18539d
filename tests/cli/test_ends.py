"""How commands end that are interrupted, or that nobody reads any more: in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.map_commands import make_stack
from tests.e2e.program import PROGRAM

# What is started in the background of a shell ignores the signal, and so would what it starts.
INTERRUPTIBLE = (
    *(sys.executable, "-c"),
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);from clarice.cli.app import main; main()",
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stack(tmp_path_factory.mktemp("stack")).table


@pytest.mark.parametrize(
    ("command", "sign", "sentence"),
    [
        ("run", "started", "clarice: interrupted; start the same command again to go on from what it kept"),
        ("abinitio", "the first map: about", "clarice: interrupted"),
    ],
)
def test_an_interruption_is_told_and_promises_what_the_command_keeps(
    stack: Path, tmp_path: Path, command: str, sign: str, sentence: str
) -> None:
    words = (command, str(stack), "-o", str(tmp_path / "out"), "--contrast", "dark")
    with subprocess.Popen(
        [*INTERRUPTIBLE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(sign in line for line in process.stdout), "it ended before its work began"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == sentence
    assert "Traceback" not in errors


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("denoise", "--list-methods")])
def test_output_that_nobody_reads_has_a_status_of_its_own(words: tuple[str, ...]) -> None:
    with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, "")


def test_so_has_an_error_that_nobody_reads() -> None:
    with subprocess.Popen([*PROGRAM, "check", "none.star"], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == 141


def test_an_interruption_while_the_program_still_starts_is_answered_in_words() -> None:
    program = (
        "import builtins\n"
        "usual = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'clarice.cli.app':\n"
        "        raise KeyboardInterrupt\n"
        "    return usual(name, *rest)\n"
        "from clarice.cli.start import main\n"
        "builtins.__import__ = interrupted\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    assert ended.stderr == "clarice: interrupted before anything was done\n"
