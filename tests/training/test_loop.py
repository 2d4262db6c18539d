"""The training loop: it learns, stops when told, and goes on as if it had never stopped."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tests.training.runs import assert_same_run, environment, last, log, quick, stop_after, toy_command, trained
from tests.training.toy_task import ToyTask, write_recipe

from clarice.core.errors import InputError, ResourceError, UsageError
from clarice.io.weights import read_weights
from clarice.training.checkpoint import BEFORE_DECAY, LAST, Checkpoints
from clarice.training.loop import train
from clarice.training.recipe import read_recipe
from clarice.training.stopping import StopWatch

__all__ = ["quick"]  # a fixture


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def test_it_learns_and_leaves_a_log_weights_and_a_summary(recipe: Path, tmp_path: Path) -> None:
    told: list[str] = []
    shown: list[tuple[int, int]] = []
    outcome = trained(
        recipe,
        tmp_path / "run",
        "training.images=1600",
        tell=told.append,
        progress=lambda _label, done, total: shown.append((done, total)),
    )
    assert outcome.end == "images"
    assert outcome.images == 1600
    errors = dict(outcome.validations)
    assert list(errors) == list(range(0, 1601, 160))
    assert errors[1600] < 0.5 * errors[0]
    rows = log(tmp_path / "run")
    assert [int(r["images"]) for r in rows] == sorted({*range(0, 1600, 160), *range(96, 1601, 96), 1600})
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[1]["loss"])
    assert float(rows[-1]["validation_error"]) == pytest.approx(errors[1600], rel=1e-5)
    assert told[0] == "training on sine waves of any phase"
    assert "parameters take" in told[1]
    assert shown == [(n, 1600) for n in range(16, 1601, 16)]
    summary = json.loads((tmp_path / "run" / "training.json").read_text())
    at_turn = (errors[1120] + errors[1280]) / 2
    assert summary["last_quarter_gain"] == pytest.approx((at_turn - errors[1600]) / at_turn)
    assert summary["trained"] is (summary["last_quarter_gain"] < 0.01)


def test_best_and_last_weights_are_the_averages_that_were_judged(recipe: Path, tmp_path: Path) -> None:
    outcome = trained(recipe, tmp_path / "run")
    assert outcome.best == min(outcome.validations[1:], key=lambda entry: entry[1])
    task = read_recipe(recipe).task()
    for name, (images, error) in {"best": outcome.best, "last": outcome.validations[-1]}.items():
        assert images
        weights = read_weights(tmp_path / "run" / f"{name}.safetensors")
        model = task.model().eval()
        model.load_state_dict(weights.tensors)
        with torch.no_grad():
            assert task.validate(model, torch.device("cpu"))["error"] == pytest.approx(error, rel=1e-6)
        assert weights.card["images"] == images
        assert weights.card["recipe"]["network"]["width"] == 6


def test_the_logged_loss_is_the_mean_over_the_steps(recipe: Path, tmp_path: Path) -> None:
    coarse = trained(recipe, tmp_path / "coarse", "training.log_images=320", "training.validate_images=320")
    fine = trained(recipe, tmp_path / "fine", "training.log_images=16", "training.validate_images=320")
    assert coarse.validations == fine.validations
    losses = [float(row["loss"]) for row in log(tmp_path / "fine")[1:]]
    assert [float(row["loss"]) for row in log(tmp_path / "coarse")[1:]] == pytest.approx(
        [sum(losses[:20]) / 20, sum(losses[20:]) / 20], rel=1e-4
    )


@pytest.mark.parametrize("stop", [16, 208, 320, 560])
def test_going_on_equals_never_having_stopped(recipe: Path, tmp_path: Path, stop: int) -> None:
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    trained(recipe, whole)
    outcome = trained(recipe, halted, progress=stop_after(stop))
    assert (outcome.end, outcome.signal, outcome.images) == ("signal", signal.SIGUSR1, stop)
    assert last(halted)[1].images == stop
    trained(recipe, halted)
    assert_same_run(whole, halted)


def test_a_finished_training_is_left_as_it_is(recipe: Path, tmp_path: Path) -> None:
    first = trained(recipe, tmp_path / "run")
    before = (tmp_path / "run" / "log.csv").read_bytes()
    again = trained(recipe, tmp_path / "run")
    assert again.validations == first.validations
    assert (tmp_path / "run" / "log.csv").read_bytes() == before


def test_a_kill_costs_only_what_came_after_the_last_checkpoint(recipe: Path, tmp_path: Path) -> None:
    changes = ["data.pause_seconds=0.02", "training.checkpoint_minutes=0"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    options = [word for change in changes for word in ("--set", change)]
    process = subprocess.Popen(toy_command(recipe, killed, *options), env=environment(), stdout=subprocess.DEVNULL)
    index = killed / "checkpoints" / "last.json"
    deadline = time.monotonic() + 300  # a busy machine
    while not index.exists() or json.loads(index.read_text())["facts"]["images"] < 200:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert last(killed)[1].images < 640
    trained(recipe, killed, *changes)
    trained(recipe, whole, *changes)
    assert_same_run(whole, killed)


def test_minutes_end_in_time_and_the_next_call_goes_on(recipe: Path, tmp_path: Path) -> None:
    changes = ("training.images=100_000", "data.pause_seconds=0.01")
    began = time.monotonic()
    outcome = trained(recipe, tmp_path / "run", *changes, minutes=1.0 / 60)
    assert outcome.end == "minutes"
    assert time.monotonic() - began < 60
    assert 0 < outcome.images < 100_000
    assert last(tmp_path / "run")[1].images == outcome.images
    again = trained(recipe, tmp_path / "run", *changes, minutes=1.0 / 60)
    assert again.images > outcome.images


@pytest.mark.parametrize("stop", [16, 336])
def test_time_is_kept_back_for_checkpoint_and_validation_after_a_stop_too(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Also where the first checkpoint was the last one: it is taken to last as long as reading it."""

    def out_of_time(_watch: StopWatch, ending_seconds: float, _step_seconds: float) -> bool:
        asked.append(ending_seconds)
        return False

    trained(recipe, tmp_path / "run", progress=stop_after(stop))
    place = last(tmp_path / "run")[1]
    assert (place.checkpoint_seconds > 0) is (stop > 16)
    asked: list[float] = []
    monkeypatch.setattr(StopWatch, "out_of_time", out_of_time)
    trained(recipe, tmp_path / "run")
    assert asked[0] >= place.checkpoint_seconds + place.validation_seconds
    assert asked[0] > place.validation_seconds > 0


def test_without_images_it_needs_minutes(tmp_path: Path, recipe: Path) -> None:
    with pytest.raises(UsageError, match="minutes"):
        trained(recipe, tmp_path / "run", "training.images=null")
    assert trained(recipe, tmp_path / "run", "training.images=null", minutes=0.01).end == "minutes"


def test_a_trained_network_is_prolonged_from_before_its_decay(recipe: Path, tmp_path: Path) -> None:
    prolonged, whole = tmp_path / "prolonged", tmp_path / "whole"
    trained(recipe, prolonged)
    assert Checkpoints(prolonged, 16).load(BEFORE_DECAY)[1].images == 480
    trained(recipe, prolonged, "training.images=960")
    trained(recipe, whole, "training.images=960")
    assert_same_run(whole, prolonged)
    with pytest.raises(InputError, match="choose another folder"):
        trained(recipe, prolonged, "training.images=480")


def test_another_recipe_is_refused_with_the_key_that_differs(recipe: Path, tmp_path: Path) -> None:
    trained(recipe, tmp_path / "run")
    with pytest.raises(InputError, match=r"network.width = 6, now 7"):
        trained(recipe, tmp_path / "run", "network.width=7")


def test_the_callers_generator_is_left_alone_and_has_no_say(recipe: Path, tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.random.get_rng_state()
    trained(recipe, tmp_path / "one")
    assert torch.equal(torch.random.get_rng_state(), expected)
    torch.manual_seed(12)
    trained(recipe, tmp_path / "other")
    assert_same_run(tmp_path / "one", tmp_path / "other")


def test_a_share_in_parts_gives_the_same_gradients(recipe: Path, tmp_path: Path) -> None:
    plain = ("network.statistics=false", "network.dropout=0")
    whole = trained(recipe, tmp_path / "whole", *plain)
    parts = trained(recipe, tmp_path / "parts", *plain, "training.accumulate=4")
    assert [e for _, e in parts.validations] == pytest.approx([e for _, e in whole.validations], rel=1e-4)
    assert last(tmp_path / "parts")[1].accumulate == 4


def test_fewer_parts_can_be_asked_for_when_going_on(recipe: Path, tmp_path: Path) -> None:
    trained(recipe, tmp_path / "run", "training.accumulate=4", progress=stop_after(320))
    assert last(tmp_path / "run")[1].accumulate == 4
    trained(recipe, tmp_path / "run", "training.accumulate=2")
    assert last(tmp_path / "run")[1].accumulate == 2


def test_shares_that_do_not_fit_into_memory_go_in_parts(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(task: ToyTask, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> object:
        if len(batch["clean"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(task, model, batch)

    plain = ToyTask.loss
    changes = ("network.statistics=false", "network.dropout=0")
    whole = trained(recipe, tmp_path / "whole", *changes)
    monkeypatch.setattr(ToyTask, "loss", loss)
    told: list[str] = []
    parts = trained(recipe, tmp_path / "parts", *changes, tell=told.append)
    assert [e for _, e in parts.validations] == pytest.approx([e for _, e in whole.validations], rel=1e-4)
    assert [line for line in told if "each goes in 4 parts" in line]
    monkeypatch.setattr(ToyTask, "loss", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(ResourceError, match="does not go into 16"):
        trained(recipe, tmp_path / "none", *changes)


def test_a_loss_that_is_no_number_ends_training_with_the_checkpoint_from_before(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batch(task: ToyTask, position: int, rank: int, world: int, device: torch.device) -> object:
        found = plain(task, position, rank, world, device)
        return {name: t * (math.nan if position == 30 else 1) for name, t in found.items()}

    plain = ToyTask.batch
    monkeypatch.setattr(ToyTask, "batch", batch)
    with pytest.raises(InputError, match=r"toy.yaml: the loss is nan after 576 images: lower training.learning_rate"):
        trained(recipe, tmp_path / "run")
    tensors, place = last(tmp_path / "run")
    assert place.images == 480
    assert all(bool(torch.isfinite(t).all()) for t in tensors.values())


def test_a_second_interrupt_is_obeyed_at_once(recipe: Path, tmp_path: Path) -> None:
    def progress(_label: str, _done: int, _total: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, tmp_path / "run", progress=progress)
    assert signal.getsignal(signal.SIGINT) is before


def test_times_add_up_over_stops(recipe: Path, tmp_path: Path) -> None:
    first = trained(recipe, tmp_path / "run", "data.pause_seconds=0.01", progress=stop_after(320))
    second = trained(recipe, tmp_path / "run", "data.pause_seconds=0.01")
    assert second.seconds > first.seconds + 0.15
    with (tmp_path / "run" / "log.csv").open() as file:
        speeds = [float(row["images_per_second"] or 0) for row in csv.DictReader(file)]
    assert max(speeds) < 3 * 16 / 0.01  # some batches of the first row were made ahead
    assert LAST in {path.stem for path in (tmp_path / "run" / "checkpoints").glob("*.json")}
    assert train(read_recipe(recipe, ["data.pause_seconds=0.01"]), tmp_path / "run", device="cpu").end == "images"
