"""Weights taken out of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.runs import last, quick, trained
from tests.training.toy_task import write_recipe

from clarice.core.errors import InputError
from clarice.io.weights import read_weights
from clarice.training.checkpoint import export_weights

__all__ = ["quick"]  # a fixture
pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_averaged_weights_are_exported_with_a_card(tmp_path: Path, dtype: torch.dtype) -> None:
    outcome = trained(write_recipe(tmp_path), tmp_path / "run", shard_mb=0.01)
    export_weights(tmp_path / "run/checkpoints/last.json", tmp_path / "w.safetensors", {"box": 64}, dtype)
    weights = read_weights(tmp_path / "w.safetensors")
    assert weights.card["box"] == 64
    assert weights.card["images"] == 640
    assert weights.card["validation_error"] == outcome.validations[-1][1]
    assert weights.card["recipe"]["seed"] == 3
    tensors, _ = last(tmp_path / "run")
    averaged = {n.removeprefix("average."): t for n, t in tensors.items() if n.startswith("average.")}
    assert set(weights.tensors) == set(averaged)
    for name, tensor in averaged.items():
        expected = tensor.to(dtype).float() if tensor.is_floating_point() else tensor
        assert torch.equal(weights.tensors[name], expected)
    judged = read_weights(tmp_path / "run" / "last.safetensors")
    assert all(torch.equal(judged.tensors[name], tensor) for name, tensor in averaged.items())


def test_a_state_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    index = tmp_path / "run/checkpoints/last.json"
    index.parent.mkdir(parents=True)
    index.write_text('{"format": 1, "files": [], "tensors": {}, "facts": {"validations": [], "best": null}}')
    with pytest.raises(InputError, match="not a training checkpoint"):
        export_weights(index, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not a training checkpoint"):
        trained(write_recipe(tmp_path), tmp_path / "run")
