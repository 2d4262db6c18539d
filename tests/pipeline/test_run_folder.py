"""A run folder belongs to one run at a time, is written or refused in words, and logs across resumes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clarice.core.errors import InputError, OutputError
from clarice.io.atomic import writing
from clarice.pipeline import lock
from clarice.pipeline.durable import write_json
from clarice.pipeline.lock import LOCK_NAME, locked
from clarice.pipeline.run_folder import open_run
from clarice.pipeline.run_record import RunRecord, StageRecord, read_record


def test_folder_in_use_is_refused_by_name_of_its_holder(tmp_path: Path) -> None:
    with (
        open_run(tmp_path / "run", command="a", arguments={}),
        pytest.raises(OutputError, match=f"in use by process {os.getpid()} on {socket.gethostname()}"),
        open_run(tmp_path / "run", command="b", arguments={}),
    ):
        pass
    with open_run(tmp_path / "run", command="b", arguments={}) as run:
        assert run.record.command == "b"
    assert not (tmp_path / "run" / LOCK_NAME).exists()


def test_lock_of_another_process_holds_until_it_dies(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from clarice.pipeline.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=f"process {holder.pid}"), locked(tmp_path):
            pass
        holder.kill()
    assert (tmp_path / LOCK_NAME).exists()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("holder", "held"),
    [
        ({"pid": 2**22 + 1, "host": socket.gethostname(), "started": 1.0}, False),
        ({"pid": os.getpid(), "host": socket.gethostname(), "started": 1.0}, False),
        ({"pid": 1, "host": "elsewhere", "started": 1.0}, True),
    ],
    ids=["dead", "number used again", "other host"],
)
def test_without_kernel_locks_the_named_holder_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: dict[str, object], held: bool
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    (tmp_path / LOCK_NAME).write_text(json.dumps(holder))
    if held:
        with pytest.raises(OutputError, match="in use by process 1 on elsewhere"), locked(tmp_path):
            pass
    else:
        with locked(tmp_path):
            pass


def test_unwritable_place_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "run", tmp_path / "file", Path("/proc/clarice-run")):
        with (
            pytest.raises(OutputError, match=r"cannot make the run folder .* choose another (name|place)"),
            open_run(folder, command="a", arguments={}),
        ):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_told_in_words(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="the folder is not writable"), open_run(tmp_path, command="a", arguments={}):
        pass


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with (
        pytest.raises(OutputError, match="holds files that are not a run's"),
        open_run(tmp_path, command="a", arguments={}),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"stages": [{"nonsense": 1}]}', "\x00\xff"])
def test_foreign_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with (
        pytest.raises(OutputError, match=r"run\.json is not the record of a run.*or empty this one"),
        open_run(tmp_path, command="a", arguments={}),
    ):
        pass
    assert (tmp_path / "run.json").read_text(encoding="latin-1") == content
    for path in tmp_path.iterdir():
        path.unlink()
    with open_run(tmp_path, command="a", arguments={}) as run:
        assert run.record.stages == []


def test_log_goes_on_in_the_same_file(tmp_path: Path) -> None:
    told: list[str] = []
    with open_run(tmp_path / "run", command="first", arguments={}, tell=told.append) as run:
        run.say("hello")
        run.warn("prepare", "the sign is a guess")
    with open_run(tmp_path / "run", command="second", arguments={}) as run:
        assert run.warnings == [{"stage": "prepare", "message": "the sign is a guess"}]
    lines = (tmp_path / "run" / "clarice.log").read_text().splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "started: clarice " + run.record.version + ", first",
        "hello",
        "prepare: the sign is a guess",
        "ended",
        "resumed: clarice " + run.record.version + ", second",
        "ended",
    ]
    assert told == ["hello", "warning: the sign is a guess"]


def test_error_ends_up_in_the_log(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError),
        open_run(tmp_path / "run", command="a", arguments={}),
    ):
        raise InputError("stack.star names no image")
    assert "stopped: stack.star names no image" in (tmp_path / "run" / "clarice.log").read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_log_on_a_full_disk_adds_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clarice.log").symlink_to("/dev/full")
    with open_run(tmp_path, command="a", arguments={}) as run:
        run.say("hello")
    assert capsys.readouterr().err == ""


def test_temporary_files_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with open_run(folder, command="a", arguments={}):
        pass
    unfinished = [writing(folder / name) for name in ("denoised.mrcs", "run.json", "noending")]
    for file in unfinished:
        file.__enter__().write_text("half")
    (folder / ".mine.part").write_text("kept")
    assert len(list(folder.iterdir())) == 6
    with open_run(folder, command="a", arguments={}):
        pass
    assert {path.name for path in folder.iterdir()} == {"run.json", "clarice.log", ".mine.part"}


def test_record_survives_writing_and_reading(tmp_path: Path) -> None:
    record = RunRecord(command="run é", arguments={"x": [1, None]}, seed=None, hardware={"cpu": "Ω"})
    record.put(StageRecord("denoise", "done", "2026", "abc", {"method": "wiener"}, 1.5, 99.0, ["a"], {"a": "1"}))
    record.save(tmp_path)
    assert read_record(tmp_path) == record
    assert record.peak_memory_mb == 99.0


def test_json_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "fsc.json", {"resolution": float("nan")})
    assert list(tmp_path.iterdir()) == []
