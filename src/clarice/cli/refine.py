"""`clarice refine`: a map refined on the raw particles, in half sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from clarice.abinitio import refinement
from clarice.abinitio.evidence import doubts, gain_by_start
from clarice.abinitio.grey_scale import compared_radius, matched_scale
from clarice.abinitio.half_sets import all_half_sets
from clarice.cli.console import console, showing_progress, told
from clarice.cli.map_files import half_map_warnings, show_resolution, write_maps
from clarice.cli.output_folder import files_read, insist_on_place, keep_apart, make_folder
from clarice.cli.ready_stack import ReadyStack
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    DiameterOption,
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
from clarice.core.particles import ParticleSet
from clarice.geometry.so3 import symmetry_rotations
from clarice.io.stack import open_particles
from clarice.metrics.map_files import Cube, read_cube
from clarice.metrics.masks import mask_from_map
from clarice.metrics.registration import resample
from clarice.pipeline.foretelling import foretell
from clarice.pipeline.frame import Frame
from clarice.pipeline.fsc_files import write_fsc
from clarice.pipeline.map_stages import mirrored
from clarice.pipeline.memory import refinement as refined_estimate

WRITES = (
    *("map.mrc", "map_mirror.mrc", "half1.mrc", "half2.mrc", "mask.mrc"),
    *("particles.star", "fsc.star", "fsc.json"),
)
_O = typer.Option
FOREIGN_MAP = (
    "the particles are no likelier under the starting map than under pure noise: it may show something else, "
    "and what the half maps agree on may come from it"
)


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("refine")(refine)


IterationsOption = Annotated[
    int | None,
    _O(min=1, help="Iterations; if absent 6, and up to 4 more while the halves agree as far as was looked."),
]


def refine(
    stack: StackArgument,
    start: Annotated[Path, _O("--map", help="Map to start from, such as abinitio.mrc.")],
    output: Annotated[Path, _O("-o", "--output", help="Folder to write map.mrc, half maps and particles.star to.")],
    start_resolution: Annotated[float | None, _O(help="Low-pass of the start, Å; coarse if absent.")] = None,
    iterations: IterationsOption = None,
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
    """Refine a map on the raw particles, in half sets that stay apart (known ones, else by micrograph).

    Writes map.mrc and map_mirror.mrc, half1.mrc and half2.mrc, mask.mrc, particles.star with poses and half sets,
    and fsc.star and fsc.json of the half maps.
    """
    group_order = len(symmetry_rotations(symmetry))
    start_map = read_cube(start)
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    frame = Frame.of(particles, working_box, diameter, max_shift)
    settings = _refine_settings(frame, _shared_radius_px(start_resolution, particles), iterations, symmetry, seed)
    size = (len(particles), particles.box, frame.working_box)
    keep_apart(output, WRITES, (start, *files_read(particles, stack, passthrough)))
    insist_on_place(output)
    foretell("the refinement", refined_estimate(*size, group_order, settings.most_iterations), output, told)
    make_folder(output)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, working_box, progress)
        ready = ReadyStack(particles, prepared, frame)
        half_set = all_half_sets(particles, seed)
        scaled = _scaled_start(ready, start_map, settings)
        gain = gain_by_start(ready.noisy, scaled, settings)
        refined = refinement.refine(ready.noisy, scaled, half_set, settings, progress)
    volume, (half1, half2), pixel = refined.volume.numpy(), refined.halves.numpy(), ready.pixel_size_angstrom
    mask = mask_from_map(volume)
    maps = {"map": volume, "map_mirror": mirrored(volume), "half1": half1, "half2": half2, "mask": mask}
    write_maps(output, pixel, maps)
    ready.write_poses(output / "particles.star", refined.poses, refined.confidence, half_set=half_set)
    stated = write_fsc(output, (half1, half2), mask, pixel, seed, int(refined.history[-1].radius_px))
    foreign = [FOREIGN_MAP] if gain <= 0 else []
    for warning in [*half_map_warnings(half1, half2), *foreign, *doubts(refined, settings, pixel)]:
        console.print(f"warning: {warning}", markup=False)
    show_resolution(stated.words, pixel, output)


def _shared_radius_px(resolution_angstrom: float | None, particles: ParticleSet) -> float | None:
    """Fourier radius to which the starting map is used; None leaves it to the refinement."""
    if resolution_angstrom is None:
        return None
    field = particles.box * particles.pixel_size_angstrom
    if not 0 < resolution_angstrom <= field / 2:
        raise UsageError(
            f"--start-resolution {resolution_angstrom:g} Å must lie between 0 and half the box, {field / 2:.0f} Å"
        )
    return field / resolution_angstrom


def _refine_settings(
    frame: Frame, shared_radius_px: float | None, iterations: int | None, symmetry: str, seed: int
) -> refinement.Settings:
    return refinement.Settings(
        frame.diameter_px,
        symmetry=symmetry,
        max_shift_px=frame.max_shift_px,
        iterations=refinement.Settings.iterations if iterations is None else iterations,
        further_iterations=refinement.Settings.further_iterations if iterations is None else 0,
        start_radius_px=max(compared_radius(frame.working_box, frame.diameter_px), shared_radius_px or 0),
        shared_radius_px=shared_radius_px,
        seed=seed,
    )


def _scaled_start(ready: ReadyStack, start: Cube, settings: refinement.Settings) -> torch.Tensor:
    """The starting map in the working box and in the particles' grey scale."""
    scale = ready.pixel_size_angstrom / start.pixel_size_angstrom
    volume = torch.from_numpy(resample(start.values, ready.noisy.box, scale))
    return matched_scale(ready.noisy, volume, settings.diameter_px)
