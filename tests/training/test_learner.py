"""One step, and the estimate of what it takes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from tests.training.toy_task import ToySettings, ToyTask, write_recipe
from torch import nn

from clarice.core.errors import InputError
from clarice.training.learner import Learner
from clarice.training.memory import MemoryEstimate, estimate_memory
from clarice.training.processes import Processes
from clarice.training.recipe import read_recipe
from clarice.training.settings import TrainingSettings
from clarice.training.weight_average import WeightAverage

CPU = torch.device("cpu")


def learner(tmp_path: Path, *changes: str) -> Learner:
    recipe = read_recipe(write_recipe(tmp_path), ["network.dropout=0", *changes])
    with torch.random.fork_rng([]):
        return Learner(recipe.task(), recipe.training, recipe.seed, Processes("cpu"))


def test_a_step_is_adamw_on_the_clipped_gradient(tmp_path: Path) -> None:
    learns = learner(tmp_path, "training.clip_norm=0.01", "training.warmup_images=0", "network.statistics=false")
    plain = learner(tmp_path, "network.statistics=false").model
    batch = learns.task.batch(0, 0, 1, CPU)
    with torch.random.fork_rng([]):
        loss, scalars = learns.gradients(0, [batch])
        norm = learns.apply(0)
    matrices = [p for p in plain.parameters() if p.ndim > 1]
    vectors = [p for p in plain.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    expected, _ = learns.task.loss(plain, batch)
    expected.backward()
    gradients = [p.grad for p in plain.parameters() if p.grad is not None]
    total = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    for gradient in gradients:
        gradient *= 0.01 / (total + 1e-6)
    adamw.step()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert float(norm) == pytest.approx(float(total), rel=1e-5)
    assert scalars["worst"] > loss
    for found, wanted in zip(learns.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_average_follows_its_recursion_and_takes_over_statistics() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    average = WeightAverage(network)
    with torch.no_grad():
        network[0].weight.fill_(3.0)
        network[1].running_mean.fill_(5.0)
    average.update(network, 0.25)
    assert torch.equal(average.model[0].weight, torch.full((2, 3), 1.5))
    assert torch.equal(average.model[1].running_mean, torch.full((2,), 5.0))
    average.update(network, 1.0)
    assert torch.equal(average.model[0].weight, network[0].weight)
    assert not average.model.training
    assert not any(p.requires_grad for p in average.model.parameters())


def test_a_checkpoint_of_another_network_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another network"):
        learner(tmp_path).restore(learner(tmp_path, "network.width=5").state())


def test_the_memory_estimate_counts_weights_and_what_a_gradient_needs() -> None:
    class Wide(ToyTask):
        def model(self) -> nn.Module:
            return nn.Sequential(nn.Linear(500, 400, bias=False), nn.Sigmoid(), nn.Linear(400, 1, bias=False))

        def loss(self, model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return model(batch).mean(), {}

    task = Wide(ToySettings(), 0)
    learns = Learner(task, TrainingSettings(), 0, Processes("cpu"))
    before = [t.clone() for t in learns.model.state_dict().values()]
    estimate = estimate_memory(learns, torch.zeros((1000, 500)))
    assert estimate.parameters == 500 * 400 + 400
    assert estimate.weights_mb == pytest.approx(5 * 4 * 200_400 / 1e6)
    # The input, and the sigmoid's values, which both it and the last layer need.
    assert estimate.share_mb == pytest.approx(4 * (1000 * 500 + 1000 * 400) / 1e6, rel=0.01)
    assert estimate.free_mb < psutil.virtual_memory().total / 1e6
    assert all(torch.equal(a, b) for a, b in zip(before, learns.model.state_dict().values(), strict=True))


@pytest.mark.parametrize(("share", "free", "parts"), [(10, 100, 1), (100, 100, 2), (400, 100, 8), (1, 20, 0)])
def test_shares_are_split_until_they_fit(share: float, free: float, parts: int) -> None:
    estimate = MemoryEstimate(1_000_000, 20.0, share, free)
    assert estimate.parts == parts
    assert "1,000,000 parameters take 20 MB" in estimate.sentence(128)


def test_running_statistics_are_untouched_by_the_estimate(tmp_path: Path) -> None:
    learns = learner(tmp_path)
    before = {name: t.clone() for name, t in learns.model.state_dict().items()}
    estimate_memory(learns, learns.task.batch(0, 0, 1, CPU))
    assert all(torch.equal(t, before[name]) for name, t in learns.model.state_dict().items())
    assert all(p.grad is None for p in learns.model.parameters())
