"""From which checkpoint a run goes on, and what it says where there is none to go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.runs import last, quick, trained
from tests.training.toy_task import ToyTask, write_recipe

from clarice.core.errors import InputError
from clarice.io.weights import read_weights
from clarice.training.checkpoint import BEFORE_DECAY, LAST, Checkpoints, Place
from clarice.training.recipe import Recipe, read_recipe

__all__ = ["quick"]  # a fixture
pytestmark = pytest.mark.usefixtures("quick")

BATCH = 16
ADDED_LATER = ("source", "checkpoint_seconds", "validation_seconds")


def recipe(folder: Path, *changes: str) -> Recipe:
    return read_recipe(write_recipe(folder), changes)


def save(folder: Path, name: str, trained_by: Recipe, images: int, **more: Any) -> None:
    """A checkpoint without a network."""
    place = Place(trained_by.content, images // BATCH, images, 1.0, 1, 1, [], None, [{}], **more)
    Checkpoints(folder, 16).save(name, {"model.weight": torch.zeros(2)}, place)


def chosen(folder: Path, now: Recipe, source: str = "sine waves") -> str | None:
    images = now.training.images
    return Checkpoints(folder, 16).to_go_on_from(now, None if images is None else -(-images // BATCH), source)


def test_the_averaged_weights_are_written_with_a_card(tmp_path: Path) -> None:
    outcome = trained(write_recipe(tmp_path), tmp_path / "run", shard_mb=0.01)
    tensors, _ = last(tmp_path / "run")
    averaged = {n.removeprefix("average."): t for n, t in tensors.items() if n.startswith("average.")}
    weights = read_weights(tmp_path / "run" / "last.safetensors")
    assert set(weights.tensors) == set(averaged)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in averaged.items())
    assert weights.card["images"] == 640
    assert weights.card["source"] == "sine waves"
    assert weights.card["validation_error"] == outcome.validations[-1][1]
    assert weights.card["recipe"]["seed"] == 3


def test_a_state_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    index = tmp_path / "run/checkpoints/last.json"
    index.parent.mkdir(parents=True)
    index.write_text('{"format": 1, "files": [], "tensors": {}, "facts": {"validations": [], "best": null}}')
    with pytest.raises(InputError, match="not a training checkpoint"):
        trained(write_recipe(tmp_path), tmp_path / "run")


def test_the_furthest_checkpoint_on_the_course_is_gone_on_from(tmp_path: Path) -> None:
    plain, longer = recipe(tmp_path), recipe(tmp_path, "training.images=960")
    assert chosen(tmp_path, plain) is None
    save(tmp_path, LAST, plain, 320)
    assert chosen(tmp_path, plain) == chosen(tmp_path, longer) == LAST
    save(tmp_path, BEFORE_DECAY, plain, 480)
    save(tmp_path, LAST, plain, 640)
    assert chosen(tmp_path, plain) == LAST
    assert chosen(tmp_path, longer) == BEFORE_DECAY


def test_without_a_decay_a_shorter_training_than_was_done_is_refused(tmp_path: Path) -> None:
    flat = "training.decay_share=0"
    save(tmp_path, LAST, recipe(tmp_path, flat), 640)
    assert chosen(tmp_path, recipe(tmp_path, flat, "training.images=960")) == LAST
    assert chosen(tmp_path, recipe(tmp_path, flat, "training.images=630")) == LAST  # of as many batches
    with pytest.raises(InputError, match=r"640 images of a training for 640: .*at least --set training.images=640"):
        chosen(tmp_path, recipe(tmp_path, flat, "training.images=320"))


def test_a_checkpoint_beyond_the_end_ends_the_training(tmp_path: Path) -> None:
    """Left by a version that took it up."""
    run = tmp_path / "run"
    trained(write_recipe(tmp_path), run)
    index = run / "checkpoints/last.json"
    content = json.loads(index.read_text())
    content["facts"] |= {"position": 41, "images": 41 * BATCH}
    index.write_text(json.dumps(content))
    assert trained(write_recipe(tmp_path), run, minutes=0.05).end == "images"


@pytest.mark.parametrize(
    ("before", "now", "remedy"),
    [
        (("training.images=null",), (), "at least --set training.images=854"),
        (("training.images=null",), ("training.decay_share=1",), "pass --set training.images=null as before"),
        ((), ("training.images=650",), "pass --set training.images=640 as before, or at least 662"),
        ((), ("training.images=480",), "pass --set training.images=640 as before, or at least 662"),
    ],
)
def test_the_remedy_names_numbers_that_will_do(
    tmp_path: Path, before: tuple[str, ...], now: tuple[str, ...], remedy: str
) -> None:
    share = tuple(change for change in now if "decay_share" in change)
    earlier = recipe(tmp_path, *before, *share)
    save(tmp_path, LAST, earlier, 640)
    if not before:
        save(tmp_path, BEFORE_DECAY, earlier, 496)
    with pytest.raises(InputError) as caught:
        chosen(tmp_path, recipe(tmp_path, *now))
    assert remedy in str(caught.value)
    assert "None" not in str(caught.value)


def test_other_data_are_refused_and_a_run_that_did_not_record_them_goes_on(tmp_path: Path) -> None:
    plain = recipe(tmp_path)
    save(tmp_path, LAST, plain, 320, source="sine waves")
    assert chosen(tmp_path, plain) == LAST
    with pytest.raises(InputError, match=r"trained on sine waves, not on molecules: .*--set data=FOLDER"):
        chosen(tmp_path, plain, "molecules")
    save(tmp_path, LAST, plain, 320, source=None)
    assert chosen(tmp_path, plain, "molecules") == LAST


def test_checkpoints_of_the_first_form_are_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    trained(write_recipe(tmp_path), run, "training.images=960", minutes=0.0)
    index = run / "checkpoints/last.json"
    content = json.loads(index.read_text())
    content["facts"] = {name: value for name, value in content["facts"].items() if name not in ADDED_LATER}
    index.write_text(json.dumps(content))
    told: list[str] = []
    trained(write_recipe(tmp_path), run, tell=told.append)
    assert "it does not say what was trained on: taken to be sine waves, as now" in told
    assert last(run)[1].source == "sine waves"
    monkeypatch.setattr(ToyTask, "source", "square waves")
    with pytest.raises(InputError, match="trained on sine waves, not on square waves"):
        trained(write_recipe(tmp_path), run)
