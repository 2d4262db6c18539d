"""The version of the code, in a checkout and outside one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from clarice.benchmark.code_version import CodeVersion, code_version, source_digest


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *names, "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "src" / "package"
    (folder / "below").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "below" / "code.py").write_text("A = 1\n")
    return folder


@pytest.fixture
def checkout(package: Path, tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "src")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(package: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.md").write_text("files elsewhere are not the code\n")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook of another checkout
    found = code_version(package)
    assert (found.commit, found.modified) == (commit, False)
    assert found.name.endswith(f"commit {commit[:12]}")


@pytest.mark.parametrize("name", ["below/code.py", "below/new.py"])
def test_a_changed_or_new_file_is_told(package: Path, checkout: Path, name: str) -> None:
    before = code_version(package)
    (package / name).write_text("A = 2\n")
    after = code_version(package)
    assert (after.commit, after.modified) == (before.commit, True)
    assert after.source_sha256 != before.source_sha256
    assert "with uncommitted changes" in after.name


def test_a_commit_that_leaves_the_code_alone_leaves_its_digest_alone(package: Path, checkout: Path) -> None:
    before = code_version(package)
    git(checkout, "commit", "-qm", "second", "--allow-empty")
    after = code_version(package)
    assert after.commit != before.commit
    assert after.source_sha256 == before.source_sha256


def test_a_package_that_git_does_not_track_has_no_commit(package: Path, checkout: Path) -> None:
    """One installed into a virtual environment inside some checkout does not take that checkout's commit."""
    installed = checkout / ".venv" / "package"
    shutil.copytree(package, installed)
    found = code_version(installed)
    assert (found.commit, found.modified) == (None, None)
    assert found.source_sha256 == code_version(package).source_sha256


def test_without_git_the_content_still_tells(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = code_version(package)
    assert found.commit is None
    assert found.name == f"{found.version}, source {source_digest(package)[:8]}"


def test_digest_sees_content_and_place_but_not_what_was_compiled(package: Path) -> None:
    before = source_digest(package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "code.pyc").write_bytes(b"1")
    assert source_digest(package) == before
    (package / "below" / "code.py").rename(package / "code.py")
    assert source_digest(package) != before


def test_a_row_tells_its_code() -> None:
    version = CodeVersion("0.1.0", "a" * 64, "1" * 40, True)
    assert CodeVersion.of_row({"entry": "a", **vars(version)}) == version
