"""Training on an accelerator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training.runs import last, log, quick, stop_after, trained
from tests.training.toy_task import write_recipe

from clarice.training.loop import train
from clarice.training.recipe import read_recipe

__all__ = ["quick"]  # a fixture
PLAIN = ("network.dropout=0",)


@pytest.mark.gpu
@pytest.mark.usefixtures("quick")
def test_a_gpu_takes_the_course_of_the_cpu_and_goes_on(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    path = write_recipe(tmp_path)
    expected = trained(path, tmp_path / "cpu", *PLAIN)
    halted = train(read_recipe(path, PLAIN), tmp_path / "gpu", device="cuda", progress=stop_after(304))
    assert halted.images == 304
    found = train(read_recipe(path, PLAIN), tmp_path / "gpu", device="cuda")
    assert [e for _, e in found.validations] == pytest.approx([e for _, e in expected.validations], rel=0.05)
    assert [row["images"] for row in log(tmp_path / "gpu")] == [row["images"] for row in log(tmp_path / "cpu")]
    assert all(t.device.type == "cpu" for t in last(tmp_path / "gpu")[0].values())
