"""`clarice train`."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tests.training.runs import assert_same_run, environment, last, quick, toy_command
from tests.training.toy_task import write_recipe
from typer.testing import CliRunner

from clarice.cli.app import app
from clarice.core.errors import ClariceError

__all__ = ["quick"]  # a fixture
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the programs that are started here: sums of several threads round otherwise."""
    monkeypatch.setattr("clarice.core.parallel.worker_count", lambda: 1)


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *map(str, words), "--device", "cpu"])
    if isinstance(result.exception, ClariceError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_it_trains_and_tells(tmp_path: Path) -> None:
    code, told = invoke(write_recipe(tmp_path), "--out", tmp_path / "run", "--set", "training.images=320")
    assert code == 0, told
    assert "validation error" in told
    assert "images/s" in told
    assert "trained on 320 images" in told
    assert not (tmp_path / "run" / ".lock").exists()
    assert torch.get_num_threads() == 1


def test_minutes_end_with_zero_and_say_how_to_go_on(tmp_path: Path) -> None:
    words = (write_recipe(tmp_path), "-o", tmp_path / "run", "--set", "training.images=1000000", "--minutes", "0.02")
    code, told = invoke(*words)
    assert code == 0, told
    assert "the same command goes on from there" in told
    first = last(tmp_path / "run")[1].images
    code, told = invoke(*words)
    assert code == 0
    assert f"going on from {tmp_path / 'run' / 'checkpoints' / 'last.json'}, after {first:,} images" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_checkpoint_and_its_code(tmp_path: Path, number: signal.Signals) -> None:
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    slow = ("--set", "data.pause_seconds=0.02")
    process = subprocess.Popen(toy_command(recipe, run, *slow), env=environment(), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300  # a busy machine
    while not (run / "checkpoints" / "last.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert "a signal asked to stop" in told
    assert 0 < last(run)[1].images < 640
    assert invoke(recipe, "-o", run, *slow)[0] == 0
    assert invoke(recipe, "-o", tmp_path / "whole", *slow)[0] == 0
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "training.image=3"), "training.image is unknown"),
        (("--set", "nonsense"), "write a key and its value"),
        (("--set", "training.images=null"), "--minutes"),
        (("--device", "abacus"), "not a device"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(app, ["train", str(write_recipe(tmp_path)), "-o", str(tmp_path / "run"), *words])
    assert isinstance(result.exception, ClariceError)
    assert told in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    from clarice.pipeline.lock import locked

    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        code, told = invoke(write_recipe(tmp_path), "-o", tmp_path / "run")
    assert code == 4
    assert "is in use" in told


def test_files_are_as_small_as_asked(tmp_path: Path) -> None:
    code, told = invoke(
        write_recipe(tmp_path), "-o", tmp_path / "run", "--set", "network.width=300", "--shard-mb", "0.02"
    )
    assert code == 0, told
    files = list((tmp_path / "run" / "checkpoints").glob("last-*.safetensors"))
    assert len(files) > 1
    assert max(file.stat().st_size for file in files) <= 0.02 * 2**20
    names = json.loads((tmp_path / "run" / "checkpoints" / "last.json").read_text())["files"]
    assert {file.name for file in files} == {entry["name"] for entry in names}
