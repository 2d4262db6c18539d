"""Stages run when, and only when, something they depend on has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.toy_pipeline import count, draw, join, results, toy_stages, walk

from clarice.core.errors import InputError, OutputError, ResourceError
from clarice.pipeline import engine
from clarice.pipeline.engine import execute
from clarice.pipeline.run_folder import open_run
from clarice.pipeline.stages import Estimate, Stage, stage
from clarice.pipeline.work import Work


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(b"1234567")
    return path


def run_stages(folder: Path, stages: Sequence[Stage], **options: Any) -> dict[str, str]:
    """Runs `stages` and returns each stage's status."""
    with open_run(folder, command="toy", arguments={"a": 1}, seed=1) as run:
        execute(run, stages, **options)
        return {entry.name: entry.status for entry in run.record.stages}


ALL_DONE = dict.fromkeys(("draw", "walk", "count", "join"), "done")
ALL_SKIPPED = dict.fromkeys(ALL_DONE, "skipped")


def test_second_run_skips_every_stage_and_touches_no_result(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    assert run_stages(folder, toy_stages(source)) == ALL_DONE
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name in results(folder)}
    assert run_stages(folder, toy_stages(source)) == ALL_SKIPPED
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_changed_parameter_reruns_only_what_depends_on_it(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    run_stages(folder, toy_stages(source))
    assert run_stages(folder, toy_stages(source, scale=0.2)) == ALL_SKIPPED | {"walk": "done", "join": "done"}
    assert run_stages(folder, toy_stages(source, scale=0.2, offset=1)) == (
        ALL_SKIPPED | {"count": "done", "join": "done"}
    )


def test_result_is_that_of_a_fresh_run_whatever_was_there_before(tmp_path: Path, source: Path) -> None:
    run_stages(tmp_path / "used", toy_stages(source, seed=9, offset=4))
    run_stages(tmp_path / "used", toy_stages(source))
    run_stages(tmp_path / "fresh", toy_stages(source))
    assert results(tmp_path / "used") == results(tmp_path / "fresh")


def test_unchanged_content_of_a_rerun_stage_stops_the_wave(tmp_path: Path, source: Path) -> None:
    """A new seed changes the numbers, not the facts: `count` reads only the facts."""
    folder = tmp_path / "run"
    run_stages(folder, toy_stages(source))
    assert run_stages(folder, toy_stages(source, seed=2)) == ALL_DONE | {"count": "skipped"}


def test_immaterial_parameter_does_not_rerun(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    stages = [draw(source, seed=1), walk(scale=0.1, threads=1)]
    run_stages(folder, stages)
    stages[1] = walk(scale=0.1, threads=8)
    assert set(run_stages(folder, stages).values()) == {"skipped"}


def test_source_counts_by_content_and_not_by_name(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    run_stages(folder, toy_stages(source))
    moved = source.rename(tmp_path / "moved.bin")
    assert run_stages(folder, toy_stages(moved)) == ALL_SKIPPED
    moved.write_bytes(b"12345678")
    assert run_stages(folder, toy_stages(moved)) == ALL_DONE


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_damaged_output_is_made_again(tmp_path: Path, source: Path, damage: str) -> None:
    folder = tmp_path / "run"
    run_stages(folder, toy_stages(source))
    whole = results(folder)
    if damage == "change":
        (folder / "walk.txt").write_text("edited")
    else:
        (folder / "walk.txt").unlink()
    assert run_stages(folder, toy_stages(source)) == ALL_SKIPPED | {"walk": "done"}
    assert results(folder) == whole


def test_another_version_of_the_package_reruns(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stages(tmp_path / "run", toy_stages(source))
    monkeypatch.setattr(engine, "__version__", "999")
    assert run_stages(tmp_path / "run", toy_stages(source)) == ALL_DONE


def test_optional_output_of_an_earlier_input_does_not_stay(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    run_stages(folder, [draw(source, seed=1)])
    assert (folder / "odd.txt").exists()
    source.write_bytes(b"12345678")
    run_stages(folder, [draw(source, seed=1)])
    assert not (folder / "odd.txt").exists()


def test_dropped_stage_takes_its_files_and_warnings_along(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    run_stages(folder, toy_stages(source))
    status = run_stages(folder, [draw(source, seed=1), walk(scale=0.1)])
    assert status == {"draw": "skipped", "walk": "skipped"}
    assert not (folder / "joined.txt").exists()
    assert json.loads((folder / "run.json").read_text())["warnings"] == []


def test_until_stops_early_and_keeps_what_stands_behind(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    assert run_stages(folder, toy_stages(source), until="walk") == {"draw": "done", "walk": "done"}
    run_stages(folder, toy_stages(source))
    run_stages(folder, toy_stages(source), until="draw")
    assert (folder / "joined.txt").exists()


def test_record_tells_what_was_done(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    with open_run(folder, command="toy source", arguments={"scale": 0.1}, seed=7) as run:
        run.describe_input(path=str(source), particles=3)
        execute(run, toy_stages(source))
    record = json.loads((folder / "run.json").read_text())
    assert (record["command"], record["arguments"], record["seed"]) == ("toy source", {"scale": 0.1}, 7)
    assert record["input"] == {"path": str(source), "particles": 3}
    assert record["warnings"] == [{"stage": "count", "message": "counted by hand"}]
    assert record["peak_memory_mb"] > 10
    assert record["hardware"]["cores"] >= 1
    walked = record["stages"][1]
    assert walked["outputs"] == ["walk.txt"]
    assert walked["parameters"] == {"scale": 0.1}
    assert walked["seconds"] > 0
    assert "count: counted by hand" in (folder / "clarice.log").read_text()
    assert not (folder / ".work").exists()


def test_progress_names_the_stage(tmp_path: Path, source: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    run_stages(tmp_path / "run", toy_stages(source), progress=lambda *told: heard.append(told))
    assert heard[0] == ("walk: steps", 1, 6)
    assert heard[-1] == ("walk: steps", 6, 6)


def failing(error: Exception) -> Stage:
    @stage("fail", reads=["facts.json"], writes=["half.txt"])
    def fail(work: Work) -> None:
        work.output("half.txt").write_text("half")
        raise error

    return fail()


def test_error_in_a_stage_is_recorded_and_leaves_nothing_half_written(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    stages = [draw(source, seed=1), failing(InputError("source.bin row 3 has no defocus"))]
    with pytest.raises(InputError, match="row 3"):
        run_stages(folder, stages)
    assert not (folder / "half.txt").exists()
    entry = json.loads((folder / "run.json").read_text())["stages"][1]
    assert (entry["status"], entry["error"]) == ("failed", "source.bin row 3 has no defocus")
    assert "row 3 has no defocus" in (folder / "clarice.log").read_text()
    assert run_stages(folder, [draw(source, seed=1)]) == {"draw": "skipped"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [(MemoryError(), ResourceError), (OSError(28, "No space left on device"), OutputError)],
)
def test_exhausted_machine_is_told_in_words(
    tmp_path: Path, source: Path, error: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected, match=r"fail: .*(memory ran out|disk of .* is full)"):
        run_stages(tmp_path / "run", [draw(source, seed=1), failing(error)])


def test_stage_that_forgets_an_output_is_not_done(tmp_path: Path) -> None:
    @stage("lazy", writes=["never.txt"])
    def lazy(work: Work) -> None:
        pass

    with pytest.raises(RuntimeError, match=r"lazy did not write never\.txt"):
        run_stages(tmp_path / "run", [lazy()])


def test_only_declared_files_can_be_had(tmp_path: Path, source: Path) -> None:
    @stage("curious", reads=["facts.json"], writes=["out.txt"])
    def curious(work: Work) -> None:
        work.input("numbers.txt")

    with pytest.raises(ValueError, match=r"does not declare that it reads numbers\.txt"):
        run_stages(tmp_path / "run", [draw(source, seed=1), curious()])


def test_order_of_stages_is_checked(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ValueError, match=r"join reads count\.json, walk\.txt, which no earlier stage writes"):
        run_stages(tmp_path / "run", [draw(source, seed=1), join()])
    with pytest.raises(ValueError, match="two stages are named count"):
        run_stages(tmp_path / "run", [draw(source, seed=1), count(), count()])


@pytest.mark.parametrize(
    ("estimate", "what"),
    [(Estimate(memory_mb=1e9), "of memory"), (Estimate(disk_mb=1e12), "is free on the disk")],
)
def test_work_that_cannot_fit_is_refused_before_it_starts(
    tmp_path: Path, source: Path, estimate: Estimate, what: str
) -> None:
    stages = toy_stages(source)
    stages[-1] = stages[-1].expecting(estimate)
    with pytest.raises(ResourceError, match=what):
        run_stages(tmp_path / "run", stages)
    assert not (tmp_path / "run" / "numbers.txt").exists()


def test_estimate_covers_only_what_is_left_to_do(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    stages = [item.expecting(Estimate(seconds=60, memory_mb=10, disk_mb=1)) for item in toy_stages(source)]
    told: list[str] = []
    for _ in range(2):
        with open_run(folder, command="toy", arguments={}, tell=told.append) as run:
            execute(run, stages, until="count")
    assert told[0] == "3 of 3 steps to do: about 3 min, 10 MB of memory, 3 MB of disk"
    assert "nothing has changed: every step is up to date" in told


def test_what_earlier_calls_left_beyond_the_last_stage_is_marked_out_of_date(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    run_stages(folder, toy_stages(source))
    status = run_stages(folder, toy_stages(source, scale=0.2), until="draw")
    assert status == {"draw": "skipped", "walk": "outdated", "count": "done", "join": "outdated"}
    # They are whole all the same: who goes back to their settings has them.
    assert run_stages(folder, toy_stages(source), until="draw") == {
        "draw": "skipped", "walk": "skipped", "count": "done", "join": "skipped",
    }  # fmt: skip
    assert run_stages(folder, toy_stages(source)) == ALL_SKIPPED


def test_a_failure_leaves_later_stages_marked_out_of_date(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "run"
    run_stages(folder, toy_stages(source))
    with pytest.raises(TypeError), open_run(folder, command="toy", arguments={}, seed=1) as run:
        execute(run, toy_stages(source, scale=None))  # type: ignore[arg-type]
    record = json.loads((folder / "run.json").read_text())
    status = {stage["name"]: stage["status"] for stage in record["stages"]}
    assert status == {"draw": "skipped", "walk": "failed", "count": "done", "join": "outdated"}
