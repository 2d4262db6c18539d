"""`clarice train`: trains a network by a recipe, and goes on where it stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from clarice.cli.console import console, showing_progress
from clarice.cli.output_folder import make_folder
from clarice.core.allocator import freed_memory_kept
from clarice.core.parallel import operations_shared
from clarice.core.progress import Progress, silent
from clarice.pipeline.lock import locked
from clarice.training.recipe import read_recipe
from clarice.training.summary import closing_sentences

_O = typer.Option


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("train")(train)


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in YAML; recipes/ has some to start from.")],
    output: Annotated[Path, _O("-o", "--output", "--out", help="Run folder: new, or of a training to go on with.")],
    device: Annotated[str, _O(help="auto, cpu, cuda, or one GPU such as cuda:1.")] = "auto",
    minutes: Annotated[float | None, _O(help="Stop in time, with a checkpoint, after so many minutes.", min=0)] = None,
    changes: Annotated[
        list[str] | None, _O("--set", help="A key of the recipe and its value, as in training.images=20000.")
    ] = None,
    shard_mb: Annotated[float, _O(help="Largest file of a checkpoint, MiB.", min=0.01)] = 16.0,
    tensorboard: Annotated[bool, _O("--tensorboard", help="Write curves for TensorBoard as well as log.csv.")] = False,
) -> None:
    """Trains a network on endless simulated particles.

    The same command goes on where it stopped, whether by --minutes, a signal or a crash. To use several GPUs or
    hosts, start it with `torchrun --no-python`; every process then takes its share of each batch.
    """
    started = time.monotonic()
    from clarice.training.loop import train as run_training  # seconds to import, for this command alone

    first = "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"
    read = read_recipe(recipe, changes or ())
    make_folder(output)
    with _alone(output, first) as progress, operations_shared(), freed_memory_kept():
        outcome = run_training(
            read,
            output,
            device=device,
            minutes=minutes,
            started=started,
            shard_mb=shard_mb,
            tensorboard=tensorboard,
            tell=lambda message: console.print(message, markup=False),
            progress=progress,
        )
    if first:
        for sentence in closing_sentences(output, outcome):
            console.print(sentence, markup=False)
    # SIGUSR1 is a batch system's notice, heeded as asked.
    raise typer.Exit(128 + outcome.signal if outcome.signal in (signal.SIGINT, signal.SIGTERM) else 0)


@contextmanager
def _alone(folder: Path, first: bool) -> Iterator[Progress]:
    """The folder's lock and the console's progress for the first process; nothing for the others."""
    if not first:
        yield silent
        return
    with locked(folder), showing_progress() as progress:
        yield progress
