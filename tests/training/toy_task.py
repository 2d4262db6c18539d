"""A small denoiser of lines: a task that trains in seconds, for tests of the loop. Run as a program it is `clarice`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from clarice.core.errors import UsageError
from clarice.training.task import task

LENGTH = 16


class ToyNetwork(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(default=8, gt=0)
    dropout: float = 0.1
    statistics: bool = True


@dataclass(frozen=True)
class ToyData:
    noise: float = 0.5
    sets: int = 8
    pause_seconds: float = 0.0


class ToySettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    network: ToyNetwork = ToyNetwork()
    data: ToyData = ToyData()
    folder: Path | None = None


class ToyTask:
    """Sets of two noisy sine waves each; the network has dropout, running statistics and an unused parameter."""

    source = "sine waves"
    description = "sine waves of any phase"

    def __init__(self, settings: ToySettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.images_per_batch = 2 * settings.data.sets

    def model(self) -> nn.Module:
        width, dropout = self.settings.network.width, self.settings.network.dropout
        network = nn.Sequential(
            nn.Conv1d(1, width, 3, padding=1),
            nn.BatchNorm1d(width) if self.settings.network.statistics else nn.Identity(),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, 1, 3, padding=1),
        )
        network.register_parameter("unused", nn.Parameter(torch.ones(3)))
        return network

    def batch(self, position: int, rank: int, world: int, device: torch.device) -> Any:
        if self.settings.data.sets % world:
            raise UsageError(f"{self.settings.data.sets} sets cannot be shared out over {world}")
        if self.settings.data.pause_seconds:
            time.sleep(self.settings.data.pause_seconds)
        clean, noisy = self._sets(1 + position)
        return {"clean": clean[rank::world].to(device), "noisy": noisy[rank::world].to(device)}

    def largest(self, position: int) -> int:
        return position

    def _sets(self, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        phase = 6.3 * torch.rand((self.settings.data.sets, 2, 1), generator=generator)
        clean = torch.sin(phase + 0.8 * torch.arange(LENGTH))
        return clean, clean + self.settings.data.noise * torch.randn(clean.shape, generator=generator)

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        estimate = model(batch["noisy"].reshape(-1, 1, LENGTH)).float().view(batch["clean"].shape)
        squared = (estimate - batch["clean"]).square().mean(dim=(1, 2))
        return squared.mean(), {"worst": squared.max().detach()}

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        clean, noisy = (t.to(device) for t in self._sets(0))
        estimate = model(noisy.reshape(-1, 1, LENGTH)).view(clean.shape)
        return {"error": float((estimate - clean).square().sum() / clean.square().sum())}


task("toy", ToySettings)(ToyTask)

RECIPE = """\
task: toy
seed: 3
network: {width: 6}
training:
  images: 640
  learning_rate: 0.01
  warmup_images: 64
  average_images: 100
  log_images: 96
  validate_images: 160
"""


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    from clarice.cli.app import main

    sys.argv[0] = "clarice"
    main()
