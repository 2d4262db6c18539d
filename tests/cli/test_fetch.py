"""`clarice fetch`: addresses, and what happens without a network; no test goes online."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pooch
import pytest
import requests
import typer
from typer.testing import CliRunner

from clarice.cli import fetch as command
from clarice.cli.fetch import addresses, fetch_file
from clarice.core.errors import ClariceError, OutputError, ResourceError, UsageError


def run(*arguments: str) -> str:
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, ClariceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def serve(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[str]:
    """Puts `answer` (bytes, or an exception) in the place of the network; returns the addresses asked."""
    asked: list[str] = []

    def download(self: object, url: str, output_file: str, downloader: object) -> None:
        asked.append(url)
        if isinstance(answer, Exception):
            Path(output_file).write_bytes(b"half")
            raise answer
        Path(output_file).write_bytes(answer)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    return asked


def test_each_archive_has_its_addresses() -> None:
    assert addresses("pdb", "4V1W", []) == [("https://files.rcsb.org/download/4v1w.cif.gz", "4v1w.cif.gz")]
    address, name = addresses("emdb", "emd-8511", [])[0]
    assert name == "emd_8511.map.gz"
    assert address.endswith("/EMD-8511/map/emd_8511.map.gz")
    address, name = addresses("empiar", "EMPIAR-10146", ["data/a.star"])[0]
    assert name == "data/a.star"
    assert address.endswith("/10146/data/a.star")
    assert addresses("empiar", "10146", [])[0][1] == "10146.xml"


@pytest.mark.parametrize(
    ("archive", "identifier", "files"),
    [
        ("pdb", "ZZZ", []),
        ("pdb", "4v1w/../x", []),
        ("emdb", "abc", []),
        ("empiar", "1", []),
        ("empiar", "10146", ["../../etc/passwd"]),
        ("empiar", "10146", ["/etc/passwd"]),
        ("pdb", "4v1w", ["a"]),
    ],
)
def test_what_cannot_exist_is_refused(archive: Any, identifier: str, files: list[str]) -> None:
    with pytest.raises(UsageError):
        addresses(archive, identifier, files)


def test_a_file_is_saved_and_not_fetched_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, b"content")
    assert "0.0 MB" in run("pdb", "4v1w", "-o", str(tmp_path))
    assert (tmp_path / "4v1w.cif.gz").read_bytes() == b"content"
    assert "already" in run("pdb", "4v1w", "-o", str(tmp_path))
    assert len(asked) == 1


def test_without_a_network_one_sentence_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, requests.ConnectionError("no route"))
    with pytest.raises(ResourceError, match="cannot be reached"):
        run("emdb", "8511", "-o", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_answer_of_not_found_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    response = requests.Response()
    response.status_code = 404
    serve(monkeypatch, requests.HTTPError("gone", response=response))
    with pytest.raises(ResourceError, match="404"):
        run("emdb", "9999", "-o", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_blamed_on_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, OSError(28, "No space left on device"))
    with pytest.raises(OutputError, match="disk is full"):
        fetch_file("https://archive.invalid/a", tmp_path / "a")


def test_waiting_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def get(url: str, **options: Any) -> None:
        seen.update(options)
        raise requests.Timeout

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(ResourceError):
        fetch_file("https://archive.invalid/a", tmp_path / "a")
    assert seen["timeout"] <= 60


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder"):
        run("pdb", "4v1w", "-o", str(tmp_path / "file"))
