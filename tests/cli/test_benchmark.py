"""`clarice benchmark`: options, the table on paper, refusals in one sentence."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import typer
from tests.benchmark.conftest import FAKE, run_at_once
from typer.testing import CliRunner

from clarice.benchmark import main_job as job
from clarice.benchmark import peer_relion
from clarice.cli import benchmark
from clarice.core.errors import ClariceError, InputError, OutputError, UsageError

SMALL = ("--molecules", "--particles", "60", "--box", "32", "--snr", "0.5", "--threads", "1")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `clarice benchmark WORDS` in a folder of its own, the program it measures replaced by the fake one."""
    app = typer.Typer()
    benchmark.register(app)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLARICE_DATA", raising=False)
    monkeypatch.setattr(benchmark, "Request", partial(job.Request, program=FAKE))
    monkeypatch.setattr(job, "run_measured", run_at_once)

    def run(*words: str):
        return CliRunner().invoke(app, ["benchmark", *words])

    run.app = app
    return run


def error_of(result) -> ClariceError:
    assert isinstance(result.exception, ClariceError), result.output
    return result.exception


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (("main-job", "--entries", "9xyz"), UsageError, "9xyz"),
        (("main-job", "--entries", "1qvr"), UsageError, "--data"),
        (("main-job", "--entries", " "), UsageError, "--entries"),
        (("main-job", "--seeds", "one"), UsageError, "--seeds"),
        (("main-job", "--threads", "0"), UsageError, "--threads"),
        (("main-job", "--timeout", "0"), UsageError, "--timeout"),
        (("main-job", "--particles", "0"), UsageError, "--particles"),
        (("main-job", "--molecules", "--test-set"), UsageError, "exclude"),
        (("main-job", "--test-set", "--entries", "1bxn"), UsageError, "exclude"),
        (("main-job", "--methods", ","), UsageError, "--methods"),
        (("main-job", "--methods", "magic"), UsageError, "magic"),
        (("main-job", "--data", "."), InputError, "validation.npz"),
        (("peers", "--only", "tea"), UsageError, "--only"),
        (("abinitio", "--methods", "magic"), UsageError, "magic"),
        (("abinitio", "--ctf", "maybe"), UsageError, "--ctf"),
        (("abinitio", "--snr", "0"), UsageError, "snr"),
        (("common-lines", "--methods", "magic"), UsageError, "magic"),
        (("common-lines", "--snr", "loud"), UsageError, "--snr"),
        (("common-lines", "--snr", "-1"), UsageError, "above 0"),
        (("common-lines", "--shift-px", "-2"), UsageError, "not negative"),
        (("common-lines", "--shift-px", ","), UsageError, "--shift-px"),
        (("speed", "--particles", "many"), UsageError, "--particles"),
        (("speed", "--particles", "0"), UsageError, "--particles"),
        (("speed", "--methods", "magic"), UsageError, "magic"),
        (("speed", "--entry", "1qvr"), UsageError, "--data"),
        (("ablations", "--variants", "tea"), UsageError, "plain attention"),
        (("ablations", "--seeds", "one"), UsageError, "--seeds"),
        (("ablations", "--images", "100"), UsageError, "--images"),
        (("ablations", "--data", "."), InputError, "validation.npz"),
    ],
)
def test_wrong_options_are_refused_before_any_work(call, words, kind, said, tmp_path: Path) -> None:
    error = error_of(call(*words))
    assert isinstance(error, kind)
    assert said in str(error)
    assert not (tmp_path / "benchmarks").exists()


@pytest.mark.parametrize(("name", "seeds", "timeout"), [("main-job", "1,2", 60), ("peers", "1", 180)])
def test_both_protocols_share_their_options(call, name: str, seeds: str, timeout: float) -> None:
    group = typer.main.get_command(call.app).commands["benchmark"]
    options = {parameter.opts[0]: parameter for parameter in group.commands[name].params}
    common = [
        "entries",
        "test-set",
        "seeds",
        "particles",
        "box",
        "snr",
        "shift-px",
        "data",
        "molecules",
        "out",
        "work",
        "resume",
        "threads",
        "timeout",
    ]
    own = ["only", "quick"] if name == "peers" else ["methods"]
    assert list(options) == [f"--{option}" for option in (*common, *own)]
    assert all(parameter.help for parameter in options.values())
    assert (options["--seeds"].default, options["--timeout"].default) == (seeds, timeout)
    assert options["--data"].envvar == "CLARICE_DATA"


def test_a_place_that_cannot_be_written_is_refused(call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert isinstance(error_of(call("main-job", *SMALL, "--out", "file/out")), OutputError)


def test_main_job_prints_its_table_and_leaves_it_on_disk(call, tmp_path: Path) -> None:
    words = (
        "main-job",
        *SMALL,
        "--entries",
        "molecule-105,Molecule-101",
        "--seeds",
        "1",
        "--methods",
        "covariance-wiener",
    )
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert "molecule-105, seed 1: covariance-wiener, right" in result.output
    head = next(line for line in result.output.splitlines() if line.startswith("entry "))
    assert "Nyquist" in head
    assert "peak memory" in head
    assert "covariance-wiener: right structures: 2 of 2" in result.output
    assert "procedural molecules" in result.output
    record = json.loads((tmp_path / "benchmarks" / "main-job.json").read_text())
    assert [row["entry"] for row in record["rows"]] == ["molecule-105", "molecule-101"]
    assert record["settings"]["particles"] == 60
    made = [row["made"] for row in record["rows"]]
    call(*words, "--resume")
    again = json.loads((tmp_path / "benchmarks" / "main-job.json").read_text())
    assert [row["made"] for row in again["rows"]] == made
    assert isinstance(error_of(call(*words, "--resume", "--snr", "0.4")), InputError)


def test_peers_prints_rows_of_what_is_installed_and_what_is_not(
    call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peer_relion, "PROGRAMS", ("relion_of_nobody",))
    result = call("peers", *SMALL, "--entries", "molecule-105", "--only", "classes")
    assert result.exit_code == 0, result.output
    assert "RELION 2D classification, no result, not installed" in result.output
    assert "clarice classify" in result.output
    assert (tmp_path / "benchmarks" / "peers.md").is_file()
