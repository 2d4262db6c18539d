"""What a command keeps until it has ended: used by the same command alone, and gone when it is done."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clarice.core.errors import InputError, OutputError
from clarice.core.particles import RowIndex
from clarice.io.kept_results import Arrays, map_parts
from clarice.pipeline import unfinished as subject
from clarice.pipeline.launched import Launched, process_count
from clarice.pipeline.lock import locked
from clarice.pipeline.prepare import Prepared, prepare
from clarice.pipeline.stack_input import StackInput
from clarice.pipeline.unfinished import FOLDER, particles_digest, prepared_once, unfinished

ALONE = Launched(0, 1, lambda: None)
PARTS = np.array_split(np.arange(12), 4)


def work(rows: RowIndex) -> Arrays:
    if rows[0] >= 6:
        raise KeyboardInterrupt
    return {"rows": rows}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder as commands make it."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "particles.star"
    path.write_text("data_\n")
    return path


def begun(output: Path, source: Path, **job: int) -> int:
    """Begins, is interrupted in the third part, and says how many parts were there before."""
    found = 0
    with suppress(KeyboardInterrupt), unfinished(output, ["denoised.mrcs"], ALONE, job, [source]) as keeping:
        found = len(list(keeping.folder.rglob("*.safetensors")))
        list(map_parts("pass", work, PARTS, at_once=False))
    return found


def test_the_same_job_goes_on_and_another_begins_anew(output: Path, source: Path) -> None:
    assert [begun(output, source, box=64), begun(output, source, box=64), begun(output, source, box=32)] == [0, 2, 0]
    source.write_text("data_images\n")
    assert begun(output, source, box=32) == 0


def test_nothing_is_left_when_it_is_done_or_when_nothing_came_of_it(output: Path, source: Path) -> None:
    with pytest.raises(InputError, match="unfit"), unfinished(output, ["denoised.mrcs"], ALONE, {}, [source]):
        raise InputError("unfit")
    assert list(output.iterdir()) == []
    begun(output, source)
    (output / ".denoised.0123456789ab.part.mrcs").write_bytes(b"half")
    (output / FOLDER / ".prepared.0123456789ab.part.mrcs").write_bytes(b"half")
    with unfinished(output, ["denoised.mrcs"], ALONE, {}, [source]) as keeping:
        assert keeping.holds_results
    assert list(output.iterdir()) == []


def test_what_another_command_is_writing_stays(output: Path, source: Path) -> None:
    theirs = output / ".selected.0123456789ab.part.star"
    theirs.write_bytes(b"half")
    with unfinished(output, ["denoised.mrcs"], ALONE, {}, [source]):
        pass
    assert list(output.iterdir()) == [theirs]


def test_a_refusal_takes_the_prepared_stack_along_but_no_results(output: Path, source: Path) -> None:
    def refused(with_results: bool) -> None:
        with suppress(InputError), unfinished(output, ["denoised.mrcs"], ALONE, {}, [source]) as keeping:
            (keeping.folder / "prepared.mrcs").write_bytes(b"large")
            if with_results:
                list(map_parts("pass", work, PARTS[:2], at_once=False))
            raise InputError("unfit")

    refused(with_results=False)
    assert list(output.iterdir()) == []
    refused(with_results=True)
    assert (output / FOLDER / "prepared.mrcs").exists()


def test_particles_are_told_by_their_rows_and_optics(stack: StackInput) -> None:
    particles = stack.open()
    some, others = particles.subset(np.arange(0, 60)), particles.subset(np.arange(60, 120))
    assert particles_digest(some) == particles_digest(particles.subset(np.arange(0, 60)))
    assert particles_digest(some) != particles_digest(others)
    assert some.optics is not None
    moved = replace(some.optics, defocus_u_angstrom=some.optics.defocus_u_angstrom + 1)
    assert particles_digest(some) != particles_digest(replace(some, optics=moved))


def test_two_jobs_do_not_work_in_one_folder(output: Path, source: Path) -> None:
    with (
        locked(output),
        pytest.raises(OutputError, match="in use"),
        unfinished(output, ["denoised.mrcs"], ALONE, {}, [source]),
    ):
        pass


def test_a_large_stack_is_prepared_once(output: Path, stack: StackInput, monkeypatch: pytest.MonkeyPatch) -> None:
    particles, calls = stack.open(), []

    def make(images: Path | None) -> Prepared:
        calls.append(images)
        return prepare(particles, sign=1, images_path=images)

    def images(interrupted: bool) -> np.ndarray:
        found = np.empty(0)
        with suppress(KeyboardInterrupt), unfinished(output, ["denoised.mrcs"], ALONE, {}, [stack.table]) as keeping:
            prepared = prepared_once(particles, particles.box, keeping, make)
            found = prepared.noisy_set.images(np.arange(len(particles))).numpy()
            if interrupted:
                raise KeyboardInterrupt
        return found

    in_memory = images(interrupted=False)
    assert calls == [None]
    monkeypatch.setattr(subject, "IN_MEMORY_BYTES", 0)
    first, again = images(interrupted=True), images(interrupted=False)
    assert calls == [None, output / FOLDER / "prepared.mrcs"]
    assert np.array_equal(first, in_memory)
    assert np.array_equal(again, in_memory)


def test_processes_are_counted_only_where_torchrun_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # an interactive job's variable
    assert process_count() == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert process_count() == 4
