"""Real networks go on bit for bit, with either optimiser and either precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ConfigDict
from tests.training.runs import assert_same_run, last, quick, stop_after, trained
from torch import Tensor, nn

from clarice.denoise.dncnn import DnCNN, DnCNNSize
from clarice.denoise.polar_transformer import PolarTransformer, PolarTransformerSize
from clarice.training.task import task

__all__ = ["quick"]  # a fixture
pytestmark = pytest.mark.usefixtures("quick")

BOX = 16
POLAR = PolarTransformerSize(
    box=BOX,
    n_angles=16,
    real_rings=5,
    fourier_rings=5,
    channels=32,
    heads=2,
    blocks_before=1,
    attention_blocks=1,
    blocks_after=1,
)


class BlobSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    network: str


class BlobTask:
    """Sets of four noisy images of one off-centre blob, each turned by some quarter turns."""

    images_per_batch = 8
    source = description = "blobs"

    def __init__(self, settings: BlobSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed

    def model(self) -> nn.Module:
        return PolarTransformer(POLAR) if self.settings.network == "polar" else DnCNN(DnCNNSize(3, 4))

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.seed + position)
        y, x = torch.meshgrid(torch.arange(BOX) - BOX // 2, torch.arange(BOX) - BOX // 2, indexing="ij")
        centres = 3 * torch.randn((2, 2), generator=generator)
        blobs = [2 * torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8) for cx, cy in centres]
        clean = torch.stack([torch.stack([torch.rot90(blob, turns) for turns in range(4)]) for blob in blobs])
        noisy = clean + torch.randn(clean.shape, generator=generator)
        return {"clean": clean[rank::world].to(device), "noisy": noisy[rank::world].to(device)}

    def largest(self, position: int) -> int:
        return position

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return (model(batch["noisy"]).images - batch["clean"]).square().mean(), {}

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        batch = self.batch(-1, 0, 1, device)
        error = (model(batch["noisy"]).images - batch["clean"]).square().sum() / batch["clean"].square().sum()
        return {"error": float(error)}


task("blobs", BlobSettings)(BlobTask)

RECIPE = """\
task: blobs
seed: 1
network: NETWORK
training:
  images: 96
  optimiser: OPTIMISER
  precision: PRECISION
  warmup_images: 16
  log_images: 32
  validate_images: 48
"""


@pytest.mark.parametrize(
    ("network", "optimiser", "precision"),
    [("polar", "adamw", "32"), ("polar", "muon", "bf16-mixed"), ("dncnn", "adamw", "32"), ("dncnn", "muon", "32")],
)
def test_going_on_equals_never_having_stopped(tmp_path: Path, network: str, optimiser: str, precision: str) -> None:
    if optimiser == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    text = RECIPE.replace("NETWORK", network).replace("OPTIMISER", optimiser).replace("PRECISION", precision)
    recipe = tmp_path / "blobs.yaml"
    recipe.write_text(text)
    whole = trained(recipe, tmp_path / "whole")
    assert whole.validations[-1][1] < whole.validations[0][1]
    # Stopped and taken up again at every other step.
    stops = 0
    while trained(recipe, tmp_path / "halted", progress=stop_after(16)).end == "signal":
        stops += 1
    assert stops == 5
    tensors, _ = last(tmp_path / "halted")
    assert {name.split(".")[0] for name in tensors} == {"model", "average", "optimiser"}
    assert_same_run(tmp_path / "whole", tmp_path / "halted")
