"""The best weights of a run and the record of them go together, also where a training is prolonged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.runs import last, quick, stop_after, trained
from tests.training.toy_task import write_recipe

from clarice.io.weights import read_weights
from clarice.training.best_weights import BestWeights
from clarice.training.checkpoint import BEFORE_DECAY, Checkpoints

__all__ = ["quick"]  # a fixture
pytestmark = pytest.mark.usefixtures("quick")
# The rate falls from 320 images on, and the error with it.
EARLY = "training.decay_share=0.5"


def test_weights_are_kept_while_the_error_falls(tmp_path: Path) -> None:
    best = BestWeights(tmp_path, Checkpoints(tmp_path, 16))
    for images, error in ((0, 0.1), (16, 0.9), (32, 0.5), (48, 0.7)):
        best.judge(images, error, {"w": torch.tensor([float(images)])}, {"images": images})
    assert best.record == (32, 0.5)
    kept = read_weights(tmp_path / "best.safetensors")
    assert (kept.tensors["w"].item(), kept.card["images"]) == (32, 32)


def test_a_prolonged_training_goes_back_to_the_best_weights_until_then(tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    finished = trained(recipe, run, EARLY)
    assert finished.best is not None
    assert finished.best[0] > 320  # of the course that is dropped
    longer = trained(recipe, run, EARLY, "training.images=960", progress=stop_after(16))
    before_decay = Checkpoints(run, 16).load(BEFORE_DECAY)[1]
    assert longer.best == before_decay.best == last(run)[1].best
    assert longer.best is not None
    kept = read_weights(run / "best.safetensors")
    assert (kept.card["images"], kept.card["validation_error"]) == longer.best
    trained(recipe, tmp_path / "short", EARLY, progress=stop_after(longer.best[0]))
    same = read_weights(tmp_path / "short" / "best.safetensors")
    assert all(torch.equal(tensor, same.tensors[name]) for name, tensor in kept.tensors.items())


def test_where_no_copy_was_laid_aside_nothing_counts_as_best_so_far(tmp_path: Path) -> None:
    """As by the first versions."""
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    trained(recipe, run, EARLY)
    (run / "checkpoints" / f"best-{BEFORE_DECAY}.json").unlink()
    longer = trained(recipe, run, EARLY, "training.images=960", progress=stop_after(16))
    assert longer.best is None
    assert not (run / "best.safetensors").exists()
    done = trained(recipe, run, EARLY, "training.images=960")
    assert done.best == min((entry for entry in done.validations if entry[0] > 320), key=lambda entry: entry[1])
    assert read_weights(run / "best.safetensors").card["images"] == done.best[0]
