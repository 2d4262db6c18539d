"""`clarice finetune`: a network adapted to a stack by its own particles, without clean targets."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from clarice.abinitio.half_sets import all_half_sets, names_half_sets
from clarice.cli.console import console, showing_progress
from clarice.cli.output_folder import make_folder
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    SeedOption,
    StackArgument,
    prepare_stack,
)
from clarice.core.allocator import freed_memory_kept
from clarice.core.errors import InputError, UsageError
from clarice.core.parallel import operations_shared
from clarice.core.particles import ParticleSet
from clarice.denoise.depth import with_attention_blocks
from clarice.denoise.registry import DEFAULT_METHOD
from clarice.denoise.trained import TrainedNetwork, network_settings, trained_network
from clarice.io.stack import open_particles
from clarice.pipeline.lock import locked
from clarice.training.finetuning_task import FinetuningSettings
from clarice.training.settings import TrainingSettings
from clarice.training.summary import Outcome

_O = typer.Option
OutputOption = Annotated[Path, _O("-o", "--output", "--out", help="Run folder: new, or of a call to go on with.")]
NetworkOption = Annotated[str, _O("--network", help="Network to fine-tune: one that denoises and has weights.")]
BlocksOption = Annotated[
    int | None,
    _O(min=1, help="Blocks of attention: the first ones, or new ones after all; as many as before."),
]
ImagesOption = Annotated[
    int | None, _O(min=1, help="Particles to train on, counted each time; twenty times the stack if absent.")
]
MinutesOption = Annotated[float | None, _O(min=0, help="Stop in time, with a checkpoint, after so many minutes.")]
HalfOption = Annotated[int | None, _O(min=1, max=2, help="Train on this half set alone; the other stays apart.")]
ShownOption = Annotated[float, _O(help="Share of each particle's Fourier coefficients that the network is shown.")]
LeastShownOption = Annotated[float, _O(help="The least of them that it is shown in training, drawn for each set.")]
HeldOutOption = Annotated[float, _O(help="Share of the particles to judge by, never trained on.")]
WorkingBoxOption = Annotated[int | None, _O(help="Box to work in, pixels; the stack's, at most 64, if absent.")]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("finetune")(finetune)


def finetune(
    stack: StackArgument,
    output: OutputOption,
    network: NetworkOption = DEFAULT_METHOD,
    blocks: BlocksOption = None,
    images: ImagesOption = None,
    minutes: MinutesOption = None,
    half: HalfOption = None,
    shown: ShownOption = 0.8,
    least_shown: LeastShownOption = 0.5,
    held_out: HeldOutOption = 0.15,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    working_box: WorkingBoxOption = None,
    seed: SeedOption = 0,
) -> None:
    """Adapt a network to a stack by the stack's own particles, without clean targets.

    A part of each particle's Fourier coefficients is hidden, and the network learns to foretell it from the rest and
    from the other particles. Some particles are held out: only weights that foretell those better, beyond chance, are
    kept; else the weights are those from before, and the command says so. Once training has ended OUT/weights holds
    them, with a card: `CLARICE_WEIGHTS=OUT/weights clarice denoise` uses them. Until then, the same command goes on
    where it stopped.
    """
    started = time.monotonic()
    from clarice.pipeline.finetuning import finetune as run  # seconds to import, for this command alone
    from clarice.pipeline.finetuning import usual_training

    trained = trained_network(network)
    start = trained if blocks is None else with_attention_blocks(trained, blocks)
    settings = _settings(start, shown, least_shown, held_out)
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    if half is not None:
        particles = _half_of(particles, half, seed)
    make_folder(output)
    with locked(output), showing_progress() as progress, operations_shared(), freed_memory_kept():
        prepared = prepare_stack(particles, stack, contrast, ctf_state, working_box, progress)
        training = usual_training(len(particles), images)
        outcome, gain = run(
            prepared.noisy_set,
            trained,
            output,
            settings,
            training,
            start=start,
            seed=seed,
            minutes=minutes,
            started=started,
            tell=lambda message: console.print(message, markup=False),
            progress=progress,
        )
    weights = output / "weights" / f"{network}.safetensors"
    console.print(
        _unfinished(outcome, training) if gain is None else f"{gain.sentence}\nweights: {weights}", markup=False
    )
    raise typer.Exit(128 + outcome.signal if outcome.signal in (signal.SIGINT, signal.SIGTERM) else 0)


def _unfinished(outcome: Outcome, training: TrainingSettings) -> str:
    end = f"once training has ended ({training.images:,} images)"
    told = f"no weights yet: there is a verdict, and a file of weights, {end}: the same command goes on"
    return f"stopped after {outcome.images:,} images; {told}"


def _settings(trained: TrainedNetwork, shown: float, least_shown: float, held_out: float) -> FinetuningSettings:
    for name, share in (("--shown", shown), ("--least-shown", least_shown), ("--held-out", held_out)):
        if not 0 < share < 1:
            raise UsageError(f"{name} {share:g} must lie between 0 and 1")
    if least_shown > shown:
        raise UsageError(f"--least-shown {least_shown:g} is more than --shown {shown:g}: give less, or the same")
    return FinetuningSettings.model_validate(
        {"network": network_settings(trained), "shown": shown, "least_shown": least_shown, "kept_out": held_out}
    )


def _half_of(particles: ParticleSet, half: int, seed: int) -> ParticleSet:
    """Particles of one half set, as the table tells or a run with this seed assigns them."""
    rows = np.flatnonzero(all_half_sets(particles, seed) == half)
    if not len(rows):
        raise InputError(f"no particle belongs to half set {half}: too few for two: drop --half to use all")
    if not names_half_sets(particles):
        console.print(f"half sets are those that clarice run assigns with --seed {seed}", markup=False)
    return particles.subset(rows)
