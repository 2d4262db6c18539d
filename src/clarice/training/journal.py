"""What training tells as it goes: means since the last row, speed, and the rows of the log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from clarice.core.errors import InputError
from clarice.training.logs import LOG_NAME, LogTable, RunningMeans, TensorBoard, means
from clarice.training.processes import Processes

Sums = dict[str, tuple[float, int]]


class Journal:
    """Collects every step's figures on every process, and writes rows on the first one.

    `resumed` is the number of images up to which earlier rows are kept; None begins a new log.
    """

    def __init__(
        self,
        folder: Path,
        resumed: int | None,
        processes: Processes,
        tensorboard: bool,
        recipe: Path,
        tell: Callable[[str], None],
    ) -> None:
        self.processes, self.recipe, self.tell = processes, recipe, tell
        self.sums = RunningMeans()
        self._writers: list[LogTable | TensorBoard] = []
        if processes.first:
            self._writers.append(LogTable(folder / LOG_NAME, resumed))
        if processes.first and tensorboard:
            self._writers.append(TensorBoard(folder / "tensorboard", resumed or 0))
        self._images = resumed or 0
        self._begun = time.monotonic()
        self._paused = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within does not count for the speed."""
        began = time.monotonic()
        yield
        self._paused += time.monotonic() - began

    def count(self, figures: Mapping[str, Tensor]) -> None:
        """Adds one step's figures, without waiting for the device."""
        self.sums.add(figures)

    def all_sums(self, images: int) -> list[Sums]:
        """Every process's sums since the last row. Raises InputError where training has gone astray."""
        sums = self.processes.gathered(self.sums.state())
        for name, mean in means(sums).items():
            self.insist_on_finite(name.replace("_", " "), mean, images)
        return sums

    def insist_on_finite(self, name: str, value: float, images: int) -> None:
        """Raises InputError when `value` is infinite or not a number."""
        if not math.isfinite(value):
            raise InputError(
                f"{self.recipe}: the {name} is {value} after {images:,} images: lower training.learning_rate or "
                "training.clip_norm and start in a new folder"
            )

    def write(self, images: int, validated: Mapping[str, float], learning_rate: float, seconds: float) -> None:
        """A row of the means since the last one, the validation's figures if there are any, and the speed."""
        figures = means(self.all_sums(images))
        self.sums.clear()
        stepping = time.monotonic() - self._begun - self._paused
        row = {"images": images, **figures, **{f"validation_{name}": value for name, value in validated.items()}}
        row["learning_rate"] = learning_rate
        if images > self._images and stepping > 0:
            row["images_per_second"] = (images - self._images) / stepping
        row["seconds"] = seconds
        self._begun, self._images, self._paused = time.monotonic(), images, 0.0
        for writer in self._writers:
            writer.write(row)
        self.tell(_told(row))

    def close(self) -> None:
        """Flushes what is not on disk yet."""
        for writer in self._writers:
            writer.close()


def _told(row: Mapping[str, float]) -> str:
    told = [f"{row['images']:,} images"]
    if "loss" in row:
        told.append(f"loss {row['loss']:.4g}")
    if "validation_error" in row:
        told.append(f"validation error {row['validation_error']:.4g}")
    if "images_per_second" in row:
        told.append(f"{row['images_per_second']:.3g} images/s")
    return ", ".join(told)
