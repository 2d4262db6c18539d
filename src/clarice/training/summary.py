"""How a training ended: `training.json`, and the same in sentences."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from clarice import __version__
from clarice.io.atomic import writing
from clarice.training.plateau import TRAINED_BELOW, last_quarter_gain
from clarice.training.processes import Processes

SUMMARY_NAME = "training.json"
BEST_WEIGHTS, LAST_WEIGHTS = "best.safetensors", "last.safetensors"
End = Literal["images", "minutes", "signal"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: why, after how many images and seconds, with which validation errors; `signal` is 0 for none."""

    end: End
    signal: int
    images: int
    seconds: float
    validations: list[tuple[int, float]]
    best: tuple[int, float] | None

    @property
    def last_quarter_gain(self) -> float | None:
        """The share of the validation error that the last quarter of the images took away."""
        return last_quarter_gain(self.validations)

    @property
    def trained(self) -> bool | None:
        """Whether that gain is as small as the published protocol asks; None where it is not known."""
        gain = self.last_quarter_gain
        return None if gain is None else gain < TRAINED_BELOW


def write_summary(folder: Path, recipe: dict[str, Any], outcome: Outcome, processes: Processes) -> None:
    """Writes `training.json`: recipe, outcome and machine."""
    device = processes.device
    cuda = device.type == "cuda"
    content = {
        "version": __version__,
        "end": outcome.end,
        "images": outcome.images,
        "seconds": round(outcome.seconds, 1),
        "best": outcome.best,
        "validations": outcome.validations,
        "last_quarter_gain": outcome.last_quarter_gain,
        "trained": outcome.trained,
        "machine": {
            "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
            "processes": processes.world,
            "precision": processes.precision,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "recipe": recipe,
    }
    with writing(folder / SUMMARY_NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def closing_sentences(folder: Path, outcome: Outcome) -> list[str]:
    """What a user is told at the end."""
    told = []
    if outcome.end == "images":
        told.append(f"trained on {outcome.images:,} images in {outcome.seconds:,.0f} s")
    else:
        why = "the minutes are used up" if outcome.end == "minutes" else "a signal asked to stop"
        told.append(f"stopped after {outcome.images:,} images, because {why}: the same command goes on from there")
    gain = outcome.last_quarter_gain
    if gain is not None and outcome.end == "images":
        told.append(
            f"the last quarter of the images {'lowered' if gain >= 0 else 'raised'} the validation error by "
            f"{abs(100 * gain):.2f} %: the network counts as {'' if outcome.trained else 'not yet '}trained, for which "
            f"it must gain less than {100 * TRAINED_BELOW:g} %"
        )
    if outcome.best is not None:
        images, error = outcome.best
        told.append(f"best weights: {folder / BEST_WEIGHTS} (validation error {error:.4g} after {images:,} images)")
    told.append(f"last weights: {folder / LAST_WEIGHTS}")
    return told
