"""Fingerprints tell files apart by content, small and huge."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from clarice.core.errors import InputError
from clarice.pipeline import fingerprint
from clarice.pipeline.fingerprint import fingerprint_file, fingerprint_source, fingerprint_value


def test_small_file_has_the_hash_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert fingerprint_file(path) == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("position", [0, 700, 1999])
def test_huge_file_is_told_apart_by_blocks_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_LIMIT_BYTES", 1000)
    monkeypatch.setattr(fingerprint, "BLOCK_BYTES", 10)
    path = tmp_path / "stack"
    path.write_bytes(bytes(2000))
    os.utime(path, ns=(0, 1000))
    before = fingerprint_file(path)
    os.utime(path, ns=(0, 2000))
    assert fingerprint_file(path) != before
    content = bytearray(2000)
    content[position] = 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 1000))
    assert fingerprint_file(path) != before
    path.write_bytes(bytes(2000))
    os.utime(path, ns=(0, 1000))
    assert fingerprint_file(path) == before


def test_source_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before = fingerprint_source(path)
    path.write_bytes(b"abcd")
    assert fingerprint_source(path) != before


@pytest.mark.parametrize("name", ["missing.star", "folder"])
def test_source_that_cannot_be_read_is_told_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=rf"{name} cannot be read \(.+\): check the path"):
        fingerprint_source(tmp_path / name)


def test_values_are_equal_when_their_content_is() -> None:
    assert fingerprint_value({"a": 1, "b": [2.5]}) == fingerprint_value({"b": [2.5], "a": 1})
    assert fingerprint_value({"a": 1}) != fingerprint_value({"a": 2})
