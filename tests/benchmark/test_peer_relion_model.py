"""RELION's initial model in several goes, without RELION: a stand-in writes its files and says how it ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from clarice.benchmark import peer_relion
from clarice.benchmark.contest import used
from clarice.benchmark.measured import Usage
from clarice.benchmark.peer_relion import RelionSettings
from clarice.benchmark.peer_relion_model import initial_model
from clarice.benchmark.protocol import SimulatedStack

ENDINGS = ("optimiser.star", "class001.mrc", "grad001.mrc", "model.star", "data.star", "sampling.star")


class StandIn:
    """Writes the results of `iterations`, each `apart` seconds after the one before, and ends as `ending` says."""

    def __init__(self) -> None:
        self.iterations: Sequence[int] = ()
        self.apart = 10.0
        self.ending: Usage | BaseException = Usage(0, 100.0, 150.0, 80.0)
        self.commands: list[list[str]] = []
        self.limits: list[float] = []

    def __call__(self, command: list[str], *, log: Path, timeout_seconds: float, **_others: object) -> Usage:
        log.write_text("")
        self.commands.append(command)
        self.limits.append(timeout_seconds)
        now = time.time()
        if "--continue" in command:  # RELION writes the state that it goes on from once more
            Path(dict(pairwise(command))["--continue"]).touch()
        for number, iteration in enumerate(self.iterations, 1):
            for ending in ENDINGS:
                path = log.parent / f"run_it{iteration:03d}_{ending}"
                path.write_text("")
                os.utime(path, (now + number * self.apart,) * 2)
        if isinstance(self.ending, BaseException):
            raise self.ending
        return self.ending


@pytest.fixture
def relion(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(peer_relion, "run_measured", stand_in)
    return stand_in


def _broken_off_hours_ago(folder: Path, hours: float) -> None:
    """Moves all that the record and the files of `folder` say of times into the past."""
    record = folder / "goes.json"
    told = json.loads(record.read_text())
    told["began"] -= hours * 3600
    record.write_text(json.dumps(told))
    for path in folder.glob("run_it*"):
        written = path.stat().st_mtime - hours * 3600
        os.utime(path, (written, written))


def test_a_model_that_time_ran_out_for_is_judged_as_far_as_it_came(
    small_stack: SimulatedStack, tmp_path: Path, relion: StandIn
) -> None:
    settings = RelionSettings(timeout_seconds=60)
    relion.iterations, relion.ending = (0, 5, 10), Usage(-9, 60.0, 0.0, 0.0, "ended after 60 s", timed_out=True)
    model = tmp_path / "model"
    job = initial_model(small_stack, model, settings)
    assert (job.iteration, job.volume.name, job.table.name) == (10, "run_it010_class001.mrc", "run_it010_data.star")
    assert job.ending() == "ended after 60 s in or after iteration 10, whose map is judged: its whole time is longer"
    relion.iterations = (0,)
    nothing = initial_model(small_stack, tmp_path / "none", settings)
    assert nothing.iteration is None
    assert nothing.usage.failed
    assert nothing.ending() == "ended after 60 s"


@pytest.mark.parametrize("missing", ["class001.mrc", "model.star", "data.star", "sampling.star"])
def test_what_was_half_written_is_not_gone_on_from(
    small_stack: SimulatedStack, tmp_path: Path, relion: StandIn, missing: str
) -> None:
    relion.iterations, relion.ending = (0, 5, 10), KeyboardInterrupt()
    settings = RelionSettings(resume=True)
    with pytest.raises(KeyboardInterrupt):
        initial_model(small_stack, tmp_path, settings)
    (tmp_path / f"run_it010_{missing}").unlink()
    with pytest.raises(KeyboardInterrupt):
        initial_model(small_stack, tmp_path, settings)
    assert dict(pairwise(relion.commands[1]))["--continue"] == str(tmp_path / "run_it005_optimiser.star")


def test_a_model_is_gone_on_with_and_its_time_is_that_of_all_goes(
    small_stack: SimulatedStack, tmp_path: Path, relion: StandIn
) -> None:
    settings, model = RelionSettings(resume=True, timeout_seconds=500, seed=5), tmp_path / "model"
    relion.iterations, relion.ending = (0, 5, 10, 15), KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        initial_model(small_stack, model, settings)
    _broken_off_hours_ago(model, 2)
    relion.iterations = (20,)
    with pytest.raises(KeyboardInterrupt):
        initial_model(small_stack, model, settings)
    _broken_off_hours_ago(model, 1)
    relion.iterations, relion.ending = (250,), Usage(0, 100.0, 150.0, 80.0)
    job = initial_model(small_stack, model, settings)
    # Four results ten seconds apart, one after ten seconds, and the go that ended.
    assert job.usage.seconds == pytest.approx(40 + 10 + 100, abs=0.5)
    assert job.usage.peak_memory_mb == 80
    assert relion.limits == pytest.approx([500, 460, 450], abs=0.5)
    started, *later = relion.commands
    assert "--sgd" in started
    for command, iteration in zip(later, (15, 20), strict=True):
        options = dict(pairwise(command))
        assert options["--continue"] == str(model / f"run_it{iteration:03d}_optimiser.star")
        for name in ("--o", "--j", "--pool", "--sgd_write_iter"):
            assert options[name] == dict(pairwise(started))[name]
    # A finished one is taken as it is.
    assert initial_model(small_stack, model, settings).usage == job.usage
    assert len(relion.commands) == 3


def test_a_model_of_other_settings_or_images_is_begun_anew(
    small_stack: SimulatedStack, tmp_path: Path, relion: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    relion.iterations, relion.ending = (5,), KeyboardInterrupt()

    def starts_anew(settings: RelionSettings) -> bool:
        with pytest.raises(KeyboardInterrupt):
            initial_model(small_stack, tmp_path, settings)
        return "--continue" not in relion.commands[-1]

    settings = RelionSettings(resume=True)
    assert starts_anew(settings)
    assert not starts_anew(settings)
    assert starts_anew(RelionSettings(resume=True, seed=9))
    assert not starts_anew(RelionSettings(resume=True, seed=9))
    assert starts_anew(RelionSettings(resume=False, seed=9))
    monkeypatch.setattr("clarice.benchmark.peer_relion_model._digest", lambda _stack: "other")
    assert starts_anew(RelionSettings(resume=True, seed=9))
    (tmp_path / "goes.json").write_text("{")
    assert starts_anew(RelionSettings(resume=True, seed=9))


def test_a_model_whose_end_went_unrecorded_is_not_run_again(
    small_stack: SimulatedStack, tmp_path: Path, relion: StandIn
) -> None:
    settings, model = RelionSettings(resume=True), tmp_path / "model"
    relion.iterations, relion.ending = (245, 250), KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        initial_model(small_stack, model, settings)
    _broken_off_hours_ago(model, 1)
    job = initial_model(small_stack, model, settings)
    assert len(relion.commands) == 1
    assert job.usage.seconds == pytest.approx(20, abs=0.5)
    assert (job.usage.status, job.volume.name) == (0, "run_it250_class001.mrc")
    row = used(job.usage)
    assert "cpu_seconds" not in row
    assert "peak_memory_mb" not in row


def test_nothing_is_begun_when_no_time_is_left(small_stack: SimulatedStack, tmp_path: Path, relion: StandIn) -> None:
    settings, model = RelionSettings(resume=True, timeout_seconds=70), tmp_path / "model"
    relion.iterations, relion.ending = (5, 10), KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        initial_model(small_stack, model, settings)
    job = initial_model(small_stack, model, settings)
    assert len(relion.commands) == 1
    assert (job.iteration, job.usage.timed_out) == (10, True)
    assert job.usage.seconds == pytest.approx(20, abs=0.5)
    told = job.ending()
    assert told is not None
    assert told.startswith("ended after 20 s in or after iteration 10")


def test_shifts_are_looked_for_as_far_as_ours_in_any_box(
    small_stack: SimulatedStack, tmp_path: Path, relion: StandIn
) -> None:
    for reach in (None, 7.0):
        initial_model(small_stack, tmp_path / str(reach), RelionSettings(offset_range_px=reach))
    told = [dict(pairwise(command))["--offset_range"] for command in relion.commands]
    assert told == [str(small_stack.box / 16), "7.0"]
