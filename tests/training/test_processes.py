"""Several processes train as one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training.runs import environment, last, log, quick, toy_command, trained
from tests.training.toy_task import write_recipe

from clarice.core.errors import UsageError
from clarice.training.processes import Processes

__all__ = ["quick"]  # a fixture
# Without what depends on which sets share a process.
PLAIN = ("network.statistics=false", "network.dropout=0")


def by_two(recipe: Path, folder: Path, *changes: str) -> str:
    options = [word for change in (*PLAIN, *changes) for word in ("--set", change)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    done = subprocess.run(
        [*launcher, *toy_command(recipe, folder, *options)],
        env=environment(),
        timeout=600,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("quick")
def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    trained(recipe, whole, *PLAIN)
    told = by_two(recipe, shared)
    assert told.count("trained on 640 images") == 1
    one, two = log(whole), log(shared)
    assert [row["images"] for row in one] == [row["images"] for row in two]
    for name in ("loss", "validation_error", "gradient_norm", "learning_rate"):
        figures = [[float(row[name]) for row in rows if row[name]] for rows in (one, two)]
        assert figures[1] == pytest.approx(figures[0], rel=1e-4), name
    (tensors, place), (others, another) = last(whole), last(shared)
    assert (place.world, another.world) == (1, 2)
    moved = [n for n in tensors if n.startswith("model") and not torch.allclose(tensors[n], others[n], atol=1e-5)]
    assert moved == []
    # One process goes on with what two began.
    for folder in (whole, shared):
        trained(recipe, folder, *PLAIN, "training.images=800")
        assert log(folder)[-1]["images"] == "800"
    assert float(log(whole)[-1]["loss"]) == pytest.approx(float(log(shared)[-1]["loss"]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_two_processes_go_on_with_what_one_began(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    trained(recipe, tmp_path / "whole", *PLAIN)
    trained(recipe, tmp_path / "halted", *PLAIN, "training.images=1280", minutes=0.0)
    by_two(recipe, tmp_path / "halted")
    losses = [[float(row["loss"]) for row in log(tmp_path / name) if row["loss"]] for name in ("whole", "halted")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "mps", ""])
def test_what_is_no_device_is_one_sentence(device: str) -> None:
    with pytest.raises(UsageError, match="not a device"):
        Processes(device)


def test_a_gpu_that_is_not_there_is_one_sentence() -> None:
    missing = f"cuda:{torch.cuda.device_count() + 3}"
    with pytest.raises(UsageError, match=r"no CUDA device|there is no cuda"):
        Processes(missing)


@pytest.mark.parametrize(("native", "settled"), [(torch.bfloat16, "bf16-mixed"), (torch.float32, "32")])
def test_bfloat16_is_used_where_the_device_multiplies_it(
    native: torch.dtype, settled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clarice.training.processes.fast_dtype", lambda _: native)
    alone = Processes("cpu", "auto")
    with alone.fabric.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (alone.precision, product.dtype) == (settled, native)


@pytest.mark.parametrize("asked", ["32", "bf16-mixed"])
def test_a_precision_asked_for_is_kept(asked: str) -> None:
    assert Processes("cpu", asked).precision == asked


def test_one_process_is_alone() -> None:
    alone = Processes("cpu")
    assert (alone.rank, alone.world, alone.first, alone.device.type) == (0, 1, True, "cpu")
    assert alone.largest(7) == 7
    assert alone.gathered({"a": 1}) == [{"a": 1}]
