"""The main job's frame: what it refuses before it touches anything, what it plans, and where it stops."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clarice.core.errors import ClariceError, InputError, OutputError, UsageError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.io.stack import write_particles
from clarice.pipeline import job
from clarice.pipeline.engine import execute
from clarice.pipeline.frame import Frame
from clarice.pipeline.job import STAGE_NAMES, JobSettings, default_class_count, run_job, stages
from clarice.pipeline.job_settings import UNTIL_NAMES
from clarice.pipeline.memory import INTERPRETER_MB, WORKSPACE_MB
from clarice.pipeline.stack_input import StackInput
from clarice.pipeline.stages import Stage, check_order


def plan(stack: StackInput, **settings: Any) -> list[Stage]:
    return stages(stack, stack.open(), JobSettings(**settings))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": "magic"}, "'magic'"),
    ({"symmetry": "C0"}, "'C0'"),
    (
        {"until": "tea"},
        "'tea' is no stage: choose one of check, prepare, denoise, classify, select, abinitio, refine, postprocess, ",
    ),
    ({"method": None}, "--method None must be a name"),
    ({"classes": "three"}, "--classes 'three' must be a whole number"),
    ({"seed": 1.5}, "--seed 1.5 must be a whole number"),
    ({"starts": None}, "--starts None must be a whole number"),
    ({"diameter_angstrom": "wide"}, "--diameter 'wide' must be a number"),
    ({"contrast": "grey"}, "--contrast grey is not known: use bright or dark"),
    ({"ctf_state": "none"}, "--ctf-state none is not known: use raw, flipped or multiplied"),
    (
        {"first_map": "guess"},
        "--first-map guess is not known: use projection-matching, common-lines, moments, learned or both",
    ),
    ({"first_map": None}, "--first-map None is not known"),
    ({"classes": 0}, "--classes 0"),
    ({"classes": 121}, "120 particles cannot make 121 classes: pass fewer --classes"),
    ({"starts": 0}, "--starts 0"),
    ({"iterations": -1}, "--iterations -1"),
    ({"seed": -1}, "--seed -1"),
    ({"diameter_angstrom": 1e6}, "--diameter"),
    ({"diameter_angstrom": math.nan}, "--diameter"),
    ({"max_shift_angstrom": -1.0}, "--max-shift"),
    ({"working_box": 25}, "--working-box 25"),
    ({"working_box": 0}, "--working-box 0"),
    ({"working_box": 8}, "--working-box 8"),
]


@pytest.mark.parametrize(("settings", "named"), REFUSED, ids=lambda value: str(value)[:30])
def test_settings_are_refused_before_anything_is_touched(
    stack: StackInput, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run_job(stack, tmp_path / "run", JobSettings(**settings))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_run_is_not_touched_by_refused_settings(stack: StackInput, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_job(stack, folder, JobSettings(until="check"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError):
        run_job(stack, folder, JobSettings(until="check", symmetry="Q9"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_run_of_another_stack_is_left_as_it_is(stack: StackInput, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_job(stack, folder, JobSettings(until="check"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = tmp_path / "other.star"
    write_particles(stack.open().subset(np.arange(110)), other)
    with pytest.raises(OutputError, match=r"is the run of .*choose another folder for .*other\.star"):
        run_job(StackInput.of(other), folder, JobSettings(until="check"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # The same table elsewhere, or another one in its place, goes on.
    moved = tmp_path / "moved.star"
    moved.write_bytes(other.read_bytes())
    run_job(StackInput.of(other), tmp_path / "second", JobSettings(until="check"))
    run_job(StackInput.of(moved), tmp_path / "second", JobSettings(until="check"))
    write_particles(stack.open().subset(np.arange(105)), moved)
    run_job(StackInput.of(moved), tmp_path / "second", JobSettings(until="check"))


def test_too_few_particles_for_a_map(stack: StackInput, tmp_path: Path) -> None:
    few = tmp_path / "few.star"
    write_particles(stack.open().subset(np.arange(job.FEWEST_FOR_A_MAP - 1)), few)
    source = StackInput.of(few)
    for settings in (JobSettings(), JobSettings(until="refine")):
        with pytest.raises(InputError, match="--until select"):
            run_job(source, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_plan_is_the_stages_in_an_order_that_works(stack: StackInput) -> None:
    planned = plan(stack)
    assert tuple(stage.name for stage in planned) == STAGE_NAMES
    check_order(planned)
    assert all(path in planned[0].sources for path in (stack.table, *stack.images))


def test_every_stage_carries_an_estimate_that_grows_with_the_work(stack: StackInput) -> None:
    particles = stack.open()
    many = replace(particles, images=ArraySource(np.zeros((4000, 24, 24), dtype=np.float32)), table=None)
    small, large = (stages(stack, each, JobSettings(starts=2)) for each in (particles, many))
    for few, lots in zip(small, large, strict=True):
        assert few.estimate is not None
        assert lots.estimate is not None
        assert few.estimate.seconds > 0
        assert few.estimate.memory_mb > INTERPRETER_MB + WORKSPACE_MB
        if few.name not in ("ab initio", "postprocess"):  # they work on batches, and on maps
            assert lots.estimate.seconds > few.estimate.seconds
            assert lots.estimate.memory_mb > few.estimate.memory_mb
    estimates = {stage.name: stage.estimate for stage in large}
    image_mb = 24 * 24 * 4 / 2**20
    for name, copies in (("prepare", 1), ("denoise", 2)):  # denoised images are kept until all are written
        assert estimates[name] is not None
        assert estimates[name].disk_mb == pytest.approx(copies * 4000 * image_mb)  # type: ignore[union-attr]
    few_starts, more = (
        {stage.name: stage.estimate for stage in plan(stack, starts=starts, first_map="projection-matching")}
        for starts in (2, 6)
    )
    assert more["ab initio"].seconds == pytest.approx(3 * few_starts["ab initio"].seconds)  # type: ignore[union-attr]


def test_refinement_needs_the_most_memory_and_less_of_it_with_symmetry(stack: StackInput) -> None:
    """Maps, the kernel on the doubled grid and the grid of views grow with the working box, not with the particles."""
    few = stack.open().subset(np.arange(100))
    wide = replace(few, images=ArraySource(np.zeros((100, 128, 128), dtype=np.float32)), table=None)

    def memory_mb(working_box: int, symmetry: str = "C1") -> dict[str, float]:
        planned = stages(stack, wide, JobSettings(working_box=working_box, symmetry=symmetry))
        return {stage.name: stage.estimate.memory_mb for stage in planned if stage.estimate is not None}

    small, large, symmetric = memory_mb(64), memory_mb(128), memory_mb(128, "O")
    assert max(small, key=small.__getitem__) == max(large, key=large.__getitem__) == "refine"
    assert large["refine"] - small["refine"] > 85 * 7 + 800
    assert symmetric["refine"] < large["refine"] - 800
    for name in ("ab initio", "export"):
        assert large[name] > small[name] + 60


def test_settings_reach_the_stages_they_are_for(stack: StackInput) -> None:
    pixel = stack.open().pixel_size_angstrom
    of = {
        stage.name: stage.parameters
        for stage in plan(
            stack,
            method="wiener",
            classes=3,
            iterations=7,
            first_map="common-lines",
            starts=5,
            symmetry="C2",
            seed=9,
            working_box=16,
            diameter_angstrom=12 * pixel,
            max_shift_angstrom=3 * pixel,
            contrast="bright",
            ctf_state="raw",
        )
    }
    assert (of["check"]["contrast"], of["check"]["ctf_state"]) == ("bright", "raw")
    assert of["prepare"]["working_box"] == 16
    assert of["denoise"]["method"] == "wiener"
    assert (of["classify"]["n_classes"], of["classify"]["iterations"]) == (3, 7)
    of["ab initio"] = of["ab initio"]["settings"]
    for name in ("ab initio", "refine", "export"):
        assert of[name]["diameter_px"] == pytest.approx(8.0)
        assert of[name]["max_shift_px"] == pytest.approx(2.0)
    first = of["ab initio"]
    assert (first["method"], first["denoiser"], first["starts"]) == ("common-lines", "wiener", 5)
    assert first["symmetry"] == of["refine"]["symmetry"] == "C2"
    assert {of[name]["seed"] for name in ("classify", "ab initio", "refine", "export")} == {9}


def test_classes_by_the_number_of_particles(stack: StackInput) -> None:
    assert [default_class_count(count) for count in (1, 60, 600, 10**6)] == [1, 1, 10, 50]
    assert plan(stack)[3].parameters["n_classes"] == default_class_count(120)


def test_until_stops_after_the_stage_it_names(stack: StackInput, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for until, last in (("check", 1), ("denoise", 3), ("prepare", 2)):
        assert run_job(stack, folder, JobSettings(until=until)) == folder
        record = json.loads((folder / "run.json").read_text())
        status = {stage["name"]: stage["status"] for stage in record["stages"]}
        assert list(status)[:last] == list(STAGE_NAMES[:last])
    # The last, shorter command did not take away what a longer one had done.
    assert list(status) == list(STAGE_NAMES[:3])
    assert (folder / "denoised.star").is_file()
    assert not (folder / "classes.star").exists()
    assert record["arguments"]["until"] == "prepare"
    assert record["input"]["particles"] == 120


def test_stages_are_named_as_one_types_them() -> None:
    assert JobSettings(until="abinitio").last_stage == JobSettings(until="ab initio").last_stage == "ab initio"
    assert [JobSettings(until=name).last_stage for name in UNTIL_NAMES] == list(STAGE_NAMES)
    assert all(name.isalpha() for name in UNTIL_NAMES)


def test_numbers_of_numpy_are_taken(stack: StackInput, tmp_path: Path) -> None:
    run_job(stack, tmp_path, JobSettings(until="check", seed=np.int64(3), diameter_angstrom=np.float32(60)))  # type: ignore[arg-type]
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == 3


def test_the_whole_plan_is_given_to_the_engine(
    stack: StackInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `until` leaves out stays part of the job: its files are not taken for strangers'."""
    given: list[tuple[list[str], str | None]] = []

    def watched(run: Any, planned: list[Stage], **options: Any) -> None:
        given.append(([stage.name for stage in planned], options["until"]))
        execute(run, planned, **options)

    monkeypatch.setattr(job, "execute", watched)
    run_job(stack, tmp_path / "run", JobSettings(until="check"))
    assert given == [(list(STAGE_NAMES), "check")]


def of_box(box: int, pixel_size_angstrom: float = 2.0) -> ParticleSet:
    return ParticleSet(ArraySource(np.zeros((1, box, box), dtype=np.float32)), pixel_size_angstrom)


def test_frame_in_working_pixels() -> None:
    assert Frame.of(of_box(128)) == Frame(64, pytest.approx(0.7 * 64), pytest.approx(4.0))
    assert Frame.of(of_box(40)) == Frame(40, pytest.approx(28.0), pytest.approx(2.5))
    framed = Frame.of(of_box(100), working_box=50, diameter_angstrom=120.0, max_shift_angstrom=16.0)
    assert framed == Frame(50, pytest.approx(30.0), pytest.approx(4.0))
    assert Frame.of(of_box(100), diameter_angstrom=200.0, max_shift_angstrom=0.0).max_shift_px == 0


@pytest.mark.parametrize(
    ("lengths", "error", "named"),
    [
        ({"diameter_angstrom": 0.0}, UsageError, "--diameter 0 Å must lie between 0 and the box, 200 Å wide"),
        ({"diameter_angstrom": 200.1}, UsageError, "--diameter"),
        ({"diameter_angstrom": math.inf}, UsageError, "--diameter"),
        ({"max_shift_angstrom": 50.0}, UsageError, "--max-shift 50 Å must lie between 0 and a quarter of the box"),
        ({"max_shift_angstrom": math.nan}, UsageError, "--max-shift"),
        ({"max_shift_angstrom": -0.1}, UsageError, "--max-shift"),
        ({"working_box": 101}, UsageError, "--working-box 101 must lie between 16 and the stack's box of 100 px"),
        ({"working_box": 15}, UsageError, "--working-box 15"),
        ({"working_box": 0}, UsageError, "--working-box 0"),
    ],
)
def test_frame_refuses_lengths_the_box_cannot_hold(
    lengths: dict[str, Any], error: type[ClariceError], named: str
) -> None:
    with pytest.raises(error) as caught:
        Frame.of(of_box(100), **lengths)
    assert named in str(caught.value)


def test_frame_refuses_boxes_too_small_to_work_in() -> None:
    with pytest.raises(InputError, match="box of 12 px is too small"):
        Frame.of(of_box(12))
