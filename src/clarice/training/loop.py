"""The training loop: steps, validation, log, checkpoints, and an end by images, minutes or a signal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from clarice.core.errors import UsageError
from clarice.core.progress import Progress, silent
from clarice.io.weights import write_weights
from clarice.training.best_weights import BestWeights
from clarice.training.checkpoint import BEFORE_DECAY, LAST, Checkpoints, Place, training_card
from clarice.training.journal import Journal, Sums
from clarice.training.learner import Learner
from clarice.training.logs import average_of
from clarice.training.prefetch import Prefetcher
from clarice.training.processes import Processes
from clarice.training.recipe import Recipe
from clarice.training.schedule import crossed, decay_start, learning_rate
from clarice.training.shares import Shares
from clarice.training.stopping import StopWatch
from clarice.training.summary import LAST_WEIGHTS, End, Outcome, write_summary
from clarice.training.task import Task

# How often several processes ask one another whether to stop, in steps: each question waits for the device.
STEPS_PER_QUESTION = 8
_GO_ON, _SAVE, _OUT_OF_TIME, _SIGNALLED = 0, 1, 2, 100


def nobody(message: str) -> None:
    """Tells nobody."""


def train(
    recipe: Recipe,
    run_folder: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    started: float | None = None,
    shard_mb: float = 16.0,
    tensorboard: bool = False,
    tell: Callable[[str], None] = nobody,
    progress: Progress = silent,
) -> Outcome:
    """Trains by `recipe` in `run_folder`, going on where an earlier call with it stopped.

    Stops after `training.images`, after `minutes` since `started` (a time of `time.monotonic`), or on SIGTERM, SIGINT
    or SIGUSR1, each time with a checkpoint. Under torchrun every process calls this, and the first one writes.
    """
    if recipe.training.images is None and minutes is None:
        raise UsageError(f"{recipe.path} has no training.images: set them, or pass --minutes")
    watch = StopWatch(minutes, started)
    processes = Processes(device, recipe.training.precision)
    try:
        with torch.random.fork_rng(processes.gpus), watch.listening(), _fast_products(processes):
            first = processes.first
            checkpoints = Checkpoints(run_folder, shard_mb)
            loop = _Loop(recipe, run_folder, processes, watch, checkpoints, tell if first else nobody)
            return loop.run(tensorboard, progress if first else silent)
    finally:
        processes.close()


@contextmanager
def _fast_products(processes: Processes) -> Iterator[None]:
    """Matrix products of float32 on a GPU may round their factors to TF32."""
    before = torch.get_float32_matmul_precision()
    if processes.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Loop:
    def __init__(
        self,
        recipe: Recipe,
        run_folder: Path,
        processes: Processes,
        watch: StopWatch,
        checkpoints: Checkpoints,
        tell: Callable[[str], None],
    ) -> None:
        self.recipe, self.settings, self.folder = recipe, recipe.training, run_folder
        self.processes, self.watch, self.checkpoints, self.tell = processes, watch, checkpoints, tell
        self.task: Task = recipe.task()
        self.batch = self.task.images_per_batch
        self.end = None if self.settings.images is None else math.ceil(self.settings.images / self.batch)
        self.learner = Learner(self.task, self.settings, recipe.seed, processes)
        self.shares = Shares(self.task, processes, self.settings.accumulate, recipe.path, tell)
        self.position = 0
        self.validations: list[tuple[int, float]] = []
        self.best = BestWeights(run_folder, checkpoints)
        self.seconds_before = self.checkpoint_seconds = self.validation_seconds = 0.0
        self.begun = self.saved = time.monotonic()

    @property
    def images(self) -> int:
        return self.position * self.batch

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    @property
    def at_end(self) -> bool:
        return self.end is not None and self.position >= self.end

    def run(self, tensorboard: bool, progress: Progress) -> Outcome:
        before = self._restore()
        if not self.at_end:
            self.tell(f"training on {self.task.description}")
            self.shares.fit_into_memory(self.learner, self.position)
        resumed = None if before is None else self.images
        journal = Journal(self.folder, resumed, self.processes, tensorboard, self.recipe.path, self.tell)
        journal.sums.restore(before or {})
        batches = Prefetcher(self.shares.of, self.processes.device, self.end)
        try:
            if resumed is None:
                self._write(journal, self._validate(journal))
            stopped = self._steps(batches, journal, progress)
        finally:
            batches.close()
            journal.close()
        end: End = "signal" if stopped >= _SIGNALLED else "minutes" if stopped else "images"
        signal = stopped - _SIGNALLED if end == "signal" else 0
        outcome = Outcome(end, signal, self.images, self.seconds, self.validations, self.best.record)
        if self.processes.first:
            write_weights(self.folder / LAST_WEIGHTS, self.learner.weights(), training_card(self._place([])))
            write_summary(self.folder, self.recipe.content, outcome, self.processes)
        return outcome

    def _steps(self, batches: Prefetcher, journal: Journal, progress: Progress) -> int:
        """Steps until the end or a decision to stop, which is returned (0 at the end)."""
        from_images = self.images
        while not self.at_end:
            began = time.monotonic()
            self._step(batches, journal)
            self._show(progress, from_images)
            decided = self._decision(time.monotonic() - began)
            validated = {}
            if self.at_end or crossed(self.settings.validate_images, self.images, self.batch):
                validated = self._validate(journal)
            if self.at_end or validated or crossed(self.settings.log_images, self.images, self.batch):
                self._write(journal, validated)
            if self.images - self.batch < decay_start(self.settings) <= self.images:
                self._save(BEFORE_DECAY, journal)
            if self.at_end or validated or decided >= _SAVE:
                self._save(LAST, journal)
            if decided > _SAVE and not self.at_end:
                return decided
        return _GO_ON

    def _step(self, batches: Prefetcher, journal: Journal) -> None:
        shares = batches.take(self.position)
        while True:
            try:
                loss, scalars = self.learner.gradients(self.position, shares)
                break
            except torch.OutOfMemoryError:
                if len(shares) >= self.shares.parts:
                    self.shares.split_finer(self.position, 2 * self.shares.parts)
            shares = self.shares.of(self.position)
        norm = self.learner.apply(self.position)
        journal.count({"loss": loss, **scalars, "gradient_norm": norm})
        self.position += 1

    def _decision(self, step_seconds: float) -> int:
        """What all processes do next: go on, save, or stop for want of time or because of a signal."""
        if self.processes.world > 1 and self.position % STEPS_PER_QUESTION and not self.at_end:
            return _GO_ON
        ours = _GO_ON
        ending = self.checkpoint_seconds + self.validation_seconds
        ahead = step_seconds * (STEPS_PER_QUESTION if self.processes.world > 1 else 1)
        if self.watch.signal:
            ours = _SIGNALLED + self.watch.signal
        elif self.watch.out_of_time(ending, ahead):
            ours = _OUT_OF_TIME
        elif time.monotonic() - self.saved > 60 * self.settings.checkpoint_minutes:
            ours = _SAVE
        return self.processes.largest(ours)

    def _show(self, progress: Progress, from_images: int) -> None:
        if self.settings.images is not None:
            progress("training", self.images - from_images, max(self.settings.images, self.images) - from_images)
        elif self.watch.seconds is not None:
            progress("training", int(self.watch.elapsed()), int(self.watch.seconds))

    def _validate(self, journal: Journal) -> dict[str, float]:
        """The task's figures for the averaged weights; the first process judges, and keeps the best weights."""
        if not self.processes.first:
            return {"error": math.nan}
        began = time.monotonic()
        with journal.paused(), torch.random.fork_rng(self.processes.gpus), torch.no_grad():
            torch.manual_seed(self.recipe.seed)
            figures = self.task.validate(self.learner.average.model, self.processes.device)
            error = figures["error"]
            journal.insist_on_finite("validation error", error, self.images)
            self.validations.append((self.images, error))
            self.best.judge(self.images, error, self.learner.weights(), training_card(self._place([])))
        self.validation_seconds = time.monotonic() - began
        return figures

    def _write(self, journal: Journal, validated: Mapping[str, float]) -> None:
        rate = learning_rate(max(0, self.images - self.batch), self.batch, self.settings)
        journal.write(self.images, validated, rate, self.seconds)

    def _place(self, sums: list[Sums]) -> Place:
        return Place(
            recipe=self.recipe.content,
            position=self.position,
            images=self.images,
            seconds=self.seconds,
            accumulate=self.shares.parts,
            world=self.processes.world,
            validations=self.validations,
            best=self.best.record,
            sums=sums,
            source=self.task.source,
            checkpoint_seconds=self.checkpoint_seconds,
            validation_seconds=self.validation_seconds,
        )

    def _save(self, name: str, journal: Journal) -> None:
        began = time.monotonic()
        with journal.paused():
            sums = journal.all_sums(self.images)
            if self.processes.first:
                if name == BEFORE_DECAY:
                    self.best.lay_aside()
                self.checkpoints.save(name, self.learner.state(), self._place(sums))
        self.saved = time.monotonic()
        self.checkpoint_seconds = self.saved - began

    def _restore(self) -> Sums | None:
        """Takes over the state of an earlier call, if one is on this recipe's course; returns this process's sums."""
        name = self.checkpoints.to_go_on_from(self.recipe, self.end, self.task.source)
        if name is None:
            return None
        began = time.monotonic()
        tensors, place = self.checkpoints.load(name)
        self.learner.restore(tensors)
        # None may have been written before this one, and reading takes as long.
        self.checkpoint_seconds = max(place.checkpoint_seconds, time.monotonic() - began)
        self.validation_seconds = place.validation_seconds
        self.position, self.seconds_before = place.position, place.seconds
        self.validations, self.best.record = list(place.validations), place.best
        if name == BEFORE_DECAY and self.processes.first:
            self.best.go_back(place.best)
        self.tell(f"going on from {self.checkpoints.folder / name}.json, after {self.images:,} images")
        if place.source is None:
            self.tell(f"it does not say what was trained on: taken to be {self.task.source}, as now")
        same = place.world == self.processes.world
        return place.sums[self.processes.rank] if same else average_of(place.sums)
