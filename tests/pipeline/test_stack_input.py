"""The stack a job starts from: where it lies, how it is spelt, and what of it is on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from clarice.core.errors import UsageError
from clarice.io.stack import open_particles
from clarice.io.star import read_star, write_star
from clarice.pipeline.job import JobSettings, run_job
from clarice.pipeline.stack_input import StackInput


def statuses(folder: Path) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in json.loads((folder / "run.json").read_text())["stages"]}


def test_images_that_moved_are_named_where_they_are(stack: StackInput, tmp_path: Path) -> None:
    settings = JobSettings(until="select", classes=2, iterations=3, method="wiener")
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(stack.table.parent, first)
    run_job(StackInput.of(first / "particles.star"), tmp_path / "run", settings)
    first.rename(second)
    run_job(StackInput.of(second / "particles.star"), tmp_path / "run", settings)
    assert statuses(tmp_path / "run") == {
        "check": "skipped", "prepare": "skipped", "denoise": "skipped", "classify": "done", "select": "done",
    }  # fmt: skip
    for name in ("class_members.star", "selected.star"):
        assert open_particles(tmp_path / "run" / name).read().shape == (120, 24, 24)


def test_a_root_spelt_otherwise_repeats_nothing(
    stack: StackInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stack.table.parent
    monkeypatch.chdir(folder.parent)
    for root in (folder, Path(folder.name)):
        run_job(StackInput.of(stack.table, root), tmp_path / "run", JobSettings(until="prepare"))
    assert set(statuses(tmp_path / "run").values()) == {"skipped"}


def test_a_particle_block_of_another_name_is_worked_on(stack: StackInput, tmp_path: Path) -> None:
    blocks = read_star(stack.table)
    table = stack.table.parent / "other_name.star"
    write_star(table, {"optics": blocks["optics"], "model_class_1": blocks["particles"]})
    settings = JobSettings(until="select", classes=2, iterations=3, method="wiener")
    run_job(StackInput.of(table), tmp_path / "run", settings)
    # RELION looks for this name.
    assert "particles" in read_star(tmp_path / "run" / "selected.star")


def test_a_job_does_not_start_from_a_file_it_writes(stack: StackInput, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_job(stack, folder, JobSettings(until="prepare"))
    before = (folder / "prepared.star").read_bytes()
    with pytest.raises(UsageError, match=r"prepared\.star is a file of the run in .*: name another --output"):
        run_job(StackInput.of(folder / "prepared.star"), folder, JobSettings(until="prepare"))
    assert (folder / "prepared.star").read_bytes() == before


def test_every_option_of_the_stack_is_on_record(stack: StackInput, tmp_path: Path) -> None:
    source = StackInput.of(stack.table, pixel_size_angstrom=1.5, optics_group=1)
    run_job(source, tmp_path / "run", JobSettings(until="check"))
    arguments = json.loads((tmp_path / "run" / "run.json").read_text())["arguments"]
    assert (arguments["pixel_size_angstrom"], arguments["optics_group"], arguments["passthrough"]) == (1.5, 1, [])
