"""Bad input ends in one sentence and a status, never in a traceback or a half-written file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clarice.cli.app import main
from clarice.io.mrc import read_mrc, write_mrc

Clarice = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stack(small_data: Path, tmp_path: Path) -> Path:
    """A copy of the small stack that a test may spoil."""
    for name in ("particles.star", "particles.mrcs"):
        shutil.copy(small_data / name, tmp_path / name)
    return tmp_path / "particles.star"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Clarice:
    """Runs `clarice` with the given words in this very process, since to start one takes seconds."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["clarice", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), said.out, said.err)

    return run


def remove_images(stack: Path) -> str:
    stack.with_suffix(".mrcs").unlink()
    return "particles.mrcs"


def truncate_images(stack: Path) -> str:
    os.truncate(stack.with_suffix(".mrcs"), 100_000)
    return "particles.mrcs"


def spoil_images(stack: Path) -> str:
    stack.with_suffix(".mrcs").write_bytes(b"\x00garbage" * 1000)
    return "particles.mrcs"


def put_nan(stack: Path) -> str:
    images, pixel_size = read_mrc(stack.with_suffix(".mrcs"))
    images[7, 3, 3] = np.nan
    write_mrc(stack.with_suffix(".mrcs"), images, pixel_size, is_volume=False)
    return "8"


def make_images_constant(stack: Path) -> str:
    images, pixel_size = read_mrc(stack.with_suffix(".mrcs"))
    write_mrc(stack.with_suffix(".mrcs"), np.zeros_like(images), pixel_size, is_volume=False)
    return "constant"


def rename_column(old: str, named: str) -> Callable[[Path], str]:
    def rename(stack: Path) -> str:
        stack.write_text(stack.read_text().replace(old, "_rlnSomethingElse"))
        return named

    rename.__name__ = f"without {old}"
    return rename


def drop_rows(stack: Path) -> str:
    stack.write_text("\n".join(line for line in stack.read_text().splitlines() if "@" not in line))
    return "particles.star"


def write_garbage(stack: Path) -> str:
    stack.write_bytes(bytes(range(256)) * 20)
    return "particles.star"


def remove_table(stack: Path) -> str:
    stack.unlink()
    return "particles.star"


@pytest.mark.parametrize(
    "spoil",
    [
        remove_images,
        truncate_images,
        spoil_images,
        put_nan,
        make_images_constant,
        rename_column("_rlnImageName", "not a particle stack"),
        rename_column("_rlnImagePixelSize", "rlnImagePixelSize"),
        rename_column("_rlnDefocusU", "rlnDefocusU"),
        drop_rows,
        write_garbage,
        remove_table,
    ],
    ids=lambda spoil: spoil.__name__,
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_spoilt_stack_is_refused_in_one_sentence(
    at_once: Clarice, stack: Path, spoil: Callable[[Path], str], command: str
) -> None:
    named = spoil(stack)
    output = stack.parent / "run"
    words = ("run", stack, "-o", output) if command == "run" else ("check", stack)
    finished = at_once(*words)
    assert finished.returncode not in (0, 1), finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    assert named in finished.stdout + finished.stderr
    if command == "run":
        assert finished.stderr.count("clarice: ") == 1
        left = {path.name for path in output.iterdir()} if output.exists() else set()
        assert left <= {"run.json", "clarice.log", "check.json", "report.html"}


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("run", "{stack}", "-o", "{stack}/run"), 4),
        (("run", "{stack}", "-o", "{folder}/run", "--no-such-option"), 2),
        (("run", "{stack}"), 2),
        (("walk", "{stack}"), 2),
        (("denoise", "{stack}", "--method", "wishful", "-o", "{folder}/out"), 2),
    ],
)
def test_wrong_command_line_is_told_by_its_status(
    clarice: Clarice, stack: Path, words: tuple[str, ...], status: int
) -> None:
    places = {"stack": str(stack), "folder": str(stack.parent)}
    finished = clarice(*(word.format(**places) for word in words), ok=False)
    assert finished.returncode == status, finished.stderr
    assert "Traceback" not in finished.stderr
