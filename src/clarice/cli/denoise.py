"""`clarice denoise`: every particle of a stack, denoised, in the input's order, box and sign."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from clarice.abinitio.half_sets import names_half_sets
from clarice.cli.console import console
from clarice.cli.output_folder import files_read, keep_apart, make_folder
from clarice.cli.seed_option import seed_option
from clarice.cli.shared_stack import shared_stack
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    StackArgument,
)
from clarice.core.counting import counted
from clarice.core.errors import UsageError
from clarice.denoise.diffusion import REFINED, sampling_denoiser
from clarice.denoise.networks import is_denoising_network
from clarice.denoise.registry import DEFAULT_METHOD, Denoiser, denoiser_names, get_denoiser
from clarice.denoise.trained import trained_network, weights_digest, weights_of
from clarice.io.kept_results import results_kept
from clarice.io.stack import open_particles
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.denoised_files import DEVIATIONS, IMAGES, RECORD, TABLE, add_to_record, write_denoised
from clarice.pipeline.denoised_notes import ERRORS, NOTES
from clarice.pipeline.hidden_coefficients import foretold
from clarice.pipeline.launched import process_count

# Boxes above this are reduced to it while denoising: a single particle shows nothing finer.
LARGEST_DEFAULT_BOX = 128

_O = typer.Option
OutputOption = Annotated[Path, _O("-o", "--output", help="Folder to write denoised.mrcs and .star to.")]
MethodOption = Annotated[str, _O(help="Denoising method; `--list-methods` tells which there are.")]
WorkingBoxOption = Annotated[int | None, _O(help="Box to work in, pixels; the stack's, at most 128, if absent.")]
RadiusOption = Annotated[
    float | None, _O(help="Radius, pixels, beyond which an image is background; 3/8 of the box if absent.")
]
StepsOption = Annotated[
    int | None,
    _O(help="Steps from noise to image, of methods that sample (diffusion); 10, or 2 with a refiner, if absent."),
]
SamplesOption = Annotated[
    int | None,
    _O(help="Samples of each particle, whose mean is written; 8, or 4 with a refiner, if absent. 1: one possibility."),
]
SamplerOption = Annotated[
    str | None,
    _O(help="How to sample: ancestral (noise at every step) or ddim (at its start); ancestral if absent."),
]
SeedOption = Annotated[int | None, seed_option("Seed of samples; 0 if absent.")]
HalvesOption = Annotated[
    bool | None,
    _O(
        "--halves-apart/--halves-together",
        help="Denoise each half set as if it were alone; apart where the table names them, if absent.",
    ),
]


def _list_methods(wanted: bool) -> None:
    if wanted:
        for name in denoiser_names():
            console.print(f"{name}: {get_denoiser(name).summary}", markup=False)
        raise typer.Exit


ListOption = Annotated[
    bool, _O("--list-methods", callback=_list_methods, is_eager=True, help="List the methods and exit.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("denoise")(denoise)


def denoise(
    stack: StackArgument,
    output: OutputOption,
    method: MethodOption = DEFAULT_METHOD,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    working_box: WorkingBoxOption = None,
    background_radius_px: RadiusOption = None,
    halves_apart: HalvesOption = None,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    sampler: SamplerOption = None,
    seed: SeedOption = None,
    list_methods: ListOption = False,  # noqa: ARG001 (its callback answers and exits)
) -> None:
    """Denoise every particle of a stack.

    Writes denoised.mrcs (CTF-free projections in units of the input's noise standard deviation; order, box
    and sign as in the input) and denoised.star, its table without the defocus that no longer applies. A joint
    method also writes denoised_sources.star: which particles each image was made from, and its expected error,
    and denoised_errors.npy, that error by Fourier shell (float16, rows as in the stack).
    A method that samples writes denoised_deviation.mrcs, how far the samples of each pixel lie apart.

    After an interruption the same command goes on where it stopped. Started by `torchrun --no-python`, several
    processes share out the work of the polar transformer and of the networks for single images.
    """
    chosen = _chosen(method, {"steps": steps, "samples": samples, "sampler": sampler, "seed": seed})
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    box = min(particles.box, LARGEST_DEFAULT_BOX) if working_box is None else working_box
    names = (IMAGES, TABLE, RECORD, NOTES, ERRORS, DEVIATIONS)
    read = files_read(particles, stack, passthrough)
    keep_apart(output, names, read)
    make_folder(output)
    apart = names_half_sets(particles) if halves_apart is None else halves_apart
    job = {**_job(chosen), "halves_apart": apart}
    options = {"background_radius_px": background_radius_px}
    with shared_stack(particles, stack, read, output, names, box, contrast, ctf_state, job, **options) as shared:
        how: dict[str, Any] = {"halves_apart": apart, "progress": shared.progress, "first": shared.first}
        seconds = write_denoised(particles, shared.prepared, chosen, output, **how)
        blind = shared.first and is_denoising_network(method) and _is_blind(method, shared.prepared.noisy_set, output)
    console.print(
        f"{counted(len(particles), 'particle')} denoised by {method} in {seconds:.1f} s: {output / 'denoised.star'}",
        markup=False,
    )
    if blind:
        console.print(
            f"warning: what was hidden from {method} of these particles it foretells hardly better than zeros "
            "would: do not believe its images; compare those of covariance-wiener, or adapt it by clarice finetune",
            markup=False,
        )
    if chosen.sampling is not None and chosen.sampling.samples == 1 and method != REFINED:
        console.print("each image is one sample: one possibility of what the particle may be, not the likeliest")


def _job(chosen: Denoiser) -> dict[str, Any]:
    """What tells work by this method from other work."""
    return {
        "method": chosen.name,
        "weights": [weights_digest(path) for path in weights_of(chosen.name)],
        "sampling": None if chosen.sampling is None else asdict(chosen.sampling),
    }


def _is_blind(method: str, noisy: NoisySet, output: Path) -> bool:
    """Whether what is hidden of the particles is foretold hardly better than by zeros; the record keeps the figures."""
    with results_kept(None):  # the first process alone asks
        found = foretold(noisy, trained_network(method), 0)
    add_to_record(output, {"foretold": found.as_record})
    return not found.sees


def _chosen(method: str, given: dict[str, Any]) -> Denoiser:
    """The method, with the `given` settings of sampling.

    Raises UsageError where it does not sample, or cannot be shared out among the processes that were started.
    """
    chosen = get_denoiser(method)
    if process_count() > 1 and not chosen.shared:
        raise UsageError(f"the work of {method} is not shared out among processes: start it without torchrun")
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return chosen
    if chosen.sampling is None:
        raise UsageError(f"--{min(changes)} is for methods that sample, which {method} does not: drop it")
    return sampling_denoiser(method, replace(chosen.sampling, **changes))
