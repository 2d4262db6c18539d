"""The repository speaks of itself alone: nothing of the machine or the network it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FORBIDDEN = {
    "an absolute path of somebody's machine": re.compile(
        r"(?<![\w.~/<-])/(?:home|root|opt|work|mnt|Users|scratch)/[\w.]"
    ),
    "where packages come from": re.compile(r"(?:extra-)?index[-_]url|find[-_]links|trusted[-_]host", re.IGNORECASE),
    "a name and password in an address": re.compile(r"://[^\s/\"'@]+:[^\s/\"'@]+@"),
    "a private key or token": re.compile(r"BEGIN [A-Z ]*PRIVATE KEY|\bgh[ps]_[A-Za-z0-9]{20,}"),
}


def tracked_files() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_tells(what: str) -> None:
    told = []
    for path in tracked_files():
        if path == Path(__file__):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        told += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if FORBIDDEN[what].search(line)]
    assert told == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("an absolute path of somebody's machine", "see " + "/" + "home/someone/data"),
        ("an absolute path of somebody's machine", 'open("' + "/" + 'opt/wheels")'),
        ("where packages come from", "--extra-" + "index-url somewhere"),
        ("a name and password in an address", "https://me:secret" + "@example.org"),
    ],
)
def test_the_patterns_find_what_they_are_for(what: str, line: str) -> None:
    assert FORBIDDEN[what].search(line)


def test_the_patterns_leave_ordinary_text_alone() -> None:
    for line in (
        "RUN/.work/refine/state.pt",
        "https://www.rcsb.org/home/about",
        "a/work/b",
        "../shared/data",
    ):
        assert not [what for what, pattern in FORBIDDEN.items() if pattern.search(line)]
