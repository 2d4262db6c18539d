"""`clarice abinitio`: a first map, by projection matching from random starts, by common lines, or the likelier one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.abinitio import pose_assignment
from clarice.cli.console import console, showing_progress, told
from clarice.cli.map_files import write_maps
from clarice.cli.output_folder import insist_on_place, make_folder
from clarice.cli.ready_stack import ReadyStack
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    DiameterOption,
    FirstMapOption,
    MaxShiftOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    SeedOption,
    StackArgument,
    SymmetryOption,
    WorkingBoxOption,
    prepare_stack,
)
from clarice.core.errors import UsageError
from clarice.denoise.registry import DEFAULT_METHOD, get_denoiser
from clarice.geometry.so3 import symmetry_rotations
from clarice.io.stack import open_particles
from clarice.pipeline.durable import write_json
from clarice.pipeline.first_map import find_first_map
from clarice.pipeline.first_map_settings import FirstMapSettings, Method
from clarice.pipeline.foretelling import foretell
from clarice.pipeline.frame import Frame
from clarice.pipeline.line_map import FEWEST_PARTICLES
from clarice.pipeline.map_stages import mirrored

_O = typer.Option


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("abinitio")(abinitio)


def abinitio(
    stack: StackArgument,
    output: Annotated[Path, _O("-o", "--output", help="Folder to write abinitio.mrc and particles.star to.")],
    method: FirstMapOption = Method.BOTH,
    starts: Annotated[int, _O(min=1, help="Random starts; the most likely is kept.")] = 4,
    images: Annotated[
        int | None,
        _O(min=FEWEST_PARTICLES, help="common-lines: at most so many particles, drawn; 500 if absent."),
    ] = None,
    denoiser: Annotated[
        str | None, _O(help="common-lines: the denoiser, as `clarice denoise --list-methods` names it.")
    ] = None,
    diameter: DiameterOption = None,
    symmetry: SymmetryOption = "C1",
    max_shift: MaxShiftOption = None,
    seed: SeedOption = 0,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
    working_box: WorkingBoxOption = None,
) -> None:
    """Find a first map, by projection matching from random starts, by common lines, or the likelier of both.

    Writes abinitio.mrc and abinitio_mirror.mrc (the hand is not known), particles.star with poses, and
    abinitio.json with what speaks for the map.
    """
    _insist_on_use(method, images, denoiser)
    symmetry_rotations(symmetry)
    get_denoiser(denoiser or DEFAULT_METHOD)
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    frame = Frame.of(particles, working_box, diameter, max_shift)
    settings = FirstMapSettings(
        frame.diameter_px,
        method,
        starts,
        FirstMapSettings.images if images is None else images,
        denoiser or DEFAULT_METHOD,
        symmetry,
        frame.max_shift_px,
        seed,
    )
    insist_on_place(output)
    estimate = settings.estimate(len(particles), particles.box, frame.working_box)
    foretell("the first map", estimate, output, told)
    make_folder(output)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, working_box, progress)
        ready = ReadyStack(particles, prepared, frame)
        found = find_first_map(ready.noisy, settings, progress)
        laid = pose_assignment.lay_on(ready.noisy, found.volume, settings.laying(ready.noisy.box, found.radius_px))
    volume = found.volume.numpy()
    write_maps(output, ready.pixel_size_angstrom, {"abinitio": volume, "abinitio_mirror": mirrored(volume)})
    ready.write_poses(output / "particles.star", laid.poses, laid.confidence)
    write_json(output / "abinitio.json", found.as_record())
    if found.warning is not None:
        console.print(f"warning: {found.warning}", markup=False)
    console.print(f"{found.said}: {output / 'abinitio.mrc'}", markup=False)


def _insist_on_use(method: Method, images: int | None, denoiser: str | None) -> None:
    """Raises UsageError for options that projection matching alone has no use for."""
    if method is not Method.PROJECTION_MATCHING:
        return
    for option, given in (("--images", images), ("--denoiser", denoiser)):
        if given is not None:
            raise UsageError(f"{option} is for --method common-lines or both: leave it out, or choose one of them")
