"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from clarice.core.errors import InputError, OutputError
from clarice.io.atomic import writing


def test_target_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "map.mrc"
    with writing(target) as temporary:
        temporary.write_bytes(b"abc")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".mrc"
    assert target.read_bytes() == b"abc"
    assert os.listdir(target.parent) == ["map.mrc"]


def test_failure_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "x.star"
    target.write_text("old")

    def fail() -> None:
        with writing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.star"]


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path / "x.mrcs"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*x.mrcs: the disk is full"):
        fail()
    assert os.listdir(tmp_path) == []


def test_trouble_with_another_file_is_not_blamed_on_the_target(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path / "x.mrcs"):
            (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError):
        fail()


def test_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"), writing(tmp_path / "file" / "x.star"):
        pass


def test_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a folder has that name"), writing(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not writable"), writing(tmp_path / "x.star"):
        pass


def test_errors_of_ours_pass_through(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mine"), writing(tmp_path / "x.star"):
        raise InputError("mine")
