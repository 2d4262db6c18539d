"""`clarice abinitio`: a first map, by projection matching, common lines or moments, or the likelier of two."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from torch import Tensor

from clarice.abinitio import pose_assignment
from clarice.cli.console import console, showing_progress, told
from clarice.cli.map_files import write_maps
from clarice.cli.output_folder import files_read, insist_on_place, keep_apart, make_folder
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
from clarice.core.particles import FloatArray, Poses
from clarice.core.progress import Progress
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
from clarice.pipeline.sorted_maps import insist_on_classes, sort_by_map

TABLE, RECORD = "particles.star", "abinitio.json"
# The first map, or one of several, in either hand.
MAP_NAME = re.compile(r"abinitio(_\d+)?(_mirror)?\.mrc")

_O = typer.Option
ImagesOption = Annotated[
    int | None,
    _O(
        min=FEWEST_PARTICLES,
        help="At most so many drawn particles are laid by lines; four times as many are denoised. 500 if absent.",
    ),
]
DenoiserOption = Annotated[
    str | None, _O(help="common-lines, moments: the denoiser, as `clarice denoise --list-methods` names it.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("abinitio")(abinitio)


def abinitio(
    stack: StackArgument,
    output: Annotated[Path, _O("-o", "--output", help="Folder to write abinitio.mrc and particles.star to.")],
    method: FirstMapOption = Method.BOTH,
    starts: Annotated[int, _O(min=1, help="Random starts; the most likely is kept.")] = 4,
    images: ImagesOption = None,
    denoiser: DenoiserOption = None,
    classes: Annotated[int, _O(min=1, help="Structures to tell apart, found together by projection matching.")] = 1,
    junk: Annotated[
        float | None, _O(help="Share of particles that may show none of them, and get a class of their own.")
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
    """Find a first map, by projection matching from random starts, by common lines or moments, or the likelier one.

    Writes abinitio.mrc and abinitio_mirror.mrc (the hand is not known), particles.star with poses, and
    abinitio.json with what speaks for the map. With --classes or --junk: abinitio_1.mrc, abinitio_2.mrc and so on, the
    map of the most particles first, and each particle's class (_rlnClassNumber), junk after the last.
    """
    _insist_on_share(junk)
    _insist_on_use(method, images, denoiser, sorts=classes > 1 or junk is not None)
    symmetry_rotations(symmetry)
    get_denoiser(denoiser or DEFAULT_METHOD)
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    insist_on_classes(classes, len(particles))
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
        classes,
        junk or 0.0,
    )
    settings.insist_on_sense()
    keep_apart(output, (TABLE, RECORD), files_read(particles, stack, passthrough))
    insist_on_place(output)
    foretell("the first map", settings.estimate(len(particles), particles.box, frame.working_box), output, told)
    make_folder(output)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, working_box, progress)
        ready = ReadyStack(particles, prepared, frame)
        made = _sorted(ready, settings, progress) if settings.sorts else _found(ready, settings, progress)
    _write(output, ready, made)


@dataclass(frozen=True)
class _Made:
    """Maps by the name of their file, poses of all particles, and what is said of them."""

    maps: dict[str, NDArray[np.float32]]
    poses: Poses
    confidence: FloatArray
    class_number: NDArray[np.int64] | None
    record: dict[str, Any]
    said: str
    warnings: tuple[str, ...]


def _write(output: Path, ready: ReadyStack, made: _Made) -> None:
    """The maps, the table and the record, and what is to be said; maps of an earlier call with more classes go."""
    if (output / RECORD).exists():
        earlier = {path for path in output.iterdir() if MAP_NAME.fullmatch(path.name)}
        for stale in earlier - {output / f"{name}.mrc" for name in made.maps}:
            stale.unlink()
    write_maps(output, ready.pixel_size_angstrom, made.maps)
    ready.write_poses(output / TABLE, made.poses, made.confidence, class_number=made.class_number)
    write_json(output / RECORD, made.record)
    for warning in made.warnings:
        console.print(f"warning: {warning}", markup=False)
    console.print(f"{made.said}: {output / next(iter(made.maps))}.mrc", markup=False)


def _found(ready: ReadyStack, settings: FirstMapSettings, progress: Progress) -> _Made:
    found = find_first_map(ready.noisy, settings, progress)
    laying = settings.laying(ready.noisy.box, found.radius_px)
    laid = pose_assignment.lay_closely(ready.noisy, found.volume, laying, found.radius_px)
    maps = _both_hands("abinitio", found.volume)
    return _Made(maps, laid.poses, laid.confidence, None, found.as_record(), found.said, found.warnings)


def _sorted(ready: ReadyStack, settings: FirstMapSettings, progress: Progress) -> _Made:
    found = sort_by_map(ready.noisy, settings, progress)
    maps: dict[str, NDArray[np.float32]] = {}
    for number, volume in enumerate(found.volumes, start=1):
        maps |= _both_hands(f"abinitio_{number}", volume)
    said = ", ".join(str(count) for count in found.counts()[: settings.classes]) + " particles"
    if settings.junk_share > 0:
        said += f", and {found.counts()[-1]} of junk"
    warnings = () if found.warning is None else (found.warning,)
    return _Made(maps, found.poses, found.confidence, found.class_number, found.record, said, warnings)


def _both_hands(name: str, volume: Tensor) -> dict[str, NDArray[np.float32]]:
    return {name: volume.numpy(), f"{name}_mirror": mirrored(volume.numpy())}


def _insist_on_use(method: Method, images: int | None, denoiser: str | None, *, sorts: bool) -> None:
    """Raises UsageError for options that projection matching alone, which sorts as well, has no use for."""
    if method is not Method.PROJECTION_MATCHING and not sorts:
        return
    remedy = "leave out --classes and --junk" if sorts else "choose one of these"
    for option, given in (("--images", images), ("--denoiser", denoiser)):
        if given is not None:
            raise UsageError(
                f"{option} is for the map of one structure by common lines, moments or both: leave it out, or {remedy}"
            )


def _insist_on_share(junk: float | None) -> None:
    """Raises UsageError for a share that cannot be."""
    if junk is not None and not 0 < junk < 1:
        raise UsageError(f"--junk {junk:g} must be a share between 0 and 1")
