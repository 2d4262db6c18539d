"""`clarice benchmark denoise`: options, the table on paper, refusals in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clarice.cli import benchmark
from clarice.core.errors import ClariceError, InputError, OutputError, UsageError

SMALL = ("--molecules", "--entries", "molecule-105", "--settings", "general", "--sizes", "8", "--snr", "0.5")
QUICK = (*SMALL, "--sets", "1", "--box", "32", "--threads", "1", "--methods", "wiener")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `clarice benchmark denoise WORDS` in a folder of its own."""
    app = typer.Typer()
    benchmark.register(app)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLARICE_DATA", raising=False)
    return lambda *words: CliRunner().invoke(app, ["benchmark", "denoise", *words])


def error_of(result) -> ClariceError:
    assert isinstance(result.exception, ClariceError), result.output
    return result.exception


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (("--settings", "tea"), UsageError, "--settings"),
        (("--sizes", "many"), UsageError, "--sizes"),
        (("--snr", "-1"), UsageError, "--snr"),
        (("--noise", "pink"), UsageError, "--noise"),
        (("--ctf", "maybe"), UsageError, "--ctf"),
        (("--methods", "tea"), UsageError, "--methods"),
        (("--methods", " "), UsageError, "--methods"),
        (("--entries", "9xyz"), UsageError, "9xyz"),
        (("--entries", " "), UsageError, "--entries"),
        (("--threads", "0"), UsageError, "--threads"),
        (("--timeout", "0"), UsageError, "--timeout"),
        (("--data", "."), InputError, "validation.npz"),
    ],
)
def test_wrong_options_are_refused_before_any_work(call, words, kind, said, tmp_path: Path) -> None:
    error = error_of(call(*words))
    assert isinstance(error, kind)
    assert said in str(error)
    assert not (tmp_path / "benchmarks").exists()


@pytest.mark.parametrize(("words", "said"), [(("--sets", "0"), "--sets"), (("--box", "4"), "--box")])
def test_unfit_numbers_are_refused(call, words, said: str) -> None:
    assert said in str(error_of(call(*SMALL, *words)))


def test_a_place_that_cannot_be_written_is_refused(call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert isinstance(error_of(call(*QUICK, "--out", "file/out")), OutputError)


def test_the_table_is_printed_and_left_on_disk(call, tmp_path: Path) -> None:
    result = call(*QUICK)
    assert result.exit_code == 0, result.output
    assert "general 8, gaussian, CTF off, SNR 0.5, wiener: relative MSE 0." in result.output
    assert "procedural molecules" in result.output
    assert next(line for line in result.output.splitlines() if line.startswith("views ")).count("relative MSE") == 1
    record = json.loads((tmp_path / "benchmarks" / "denoise.json").read_text())
    assert [row["method"] for row in record["rows"]] == ["wiener"]
    assert (tmp_path / "benchmarks" / "denoise-general-8-gaussian-ctf-off.png").is_file()
    more = call(*QUICK[:-1], "covariance-wiener", "--resume")
    assert more.exit_code == 0, more.output
    again = json.loads((tmp_path / "benchmarks" / "denoise.json").read_text())
    assert [row["method"] for row in again["rows"]] == ["wiener", "covariance-wiener"]
    assert isinstance(error_of(call(*QUICK, "--resume", "--seed", "2")), InputError)
