"""`clarice reconstruct`: a map from the poses a table holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clarice.abinitio.from_poses import reconstruct_from_poses
from clarice.abinitio.half_sets import all_half_sets
from clarice.cli.console import console, showing_progress, told
from clarice.cli.map_files import half_map_warnings, show_resolution, write_maps
from clarice.cli.matched_tables import pose_columns
from clarice.cli.output_folder import files_read, insist_on_place, keep_apart, make_folder
from clarice.cli.stack_options import (
    ContrastOption,
    CtfStateOption,
    DiameterOption,
    OpticsGroupOption,
    PassthroughOption,
    PixelSizeOption,
    RootOption,
    SeedOption,
    StackArgument,
    SymmetryOption,
    prepare_stack,
)
from clarice.core.errors import InputError
from clarice.geometry.so3 import symmetry_rotations
from clarice.io.stack import open_particles
from clarice.metrics.masks import mask_from_map
from clarice.pipeline.foretelling import foretell
from clarice.pipeline.frame import Frame
from clarice.pipeline.fsc_files import write_fsc
from clarice.pipeline.memory import reconstruction

WRITES = ("map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "fsc.json")
_O = typer.Option


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command("reconstruct")(reconstruct)


def reconstruct(
    stack: StackArgument,
    output: Annotated[Path, _O("-o", "--output", help="Folder to write map.mrc and the half maps to.")],
    diameter: DiameterOption = None,
    symmetry: SymmetryOption = "C1",
    working_box: Annotated[int | None, _O(help="Box of the map, pixels; the stack's if absent.")] = None,
    seed: SeedOption = 0,
    root: RootOption = None,
    passthrough: PassthroughOption = None,
    pixel_size: PixelSizeOption = None,
    optics_group: OpticsGroupOption = None,
    contrast: ContrastOption = None,
    ctf_state: CtfStateOption = None,
) -> None:
    """Reconstruct a map by direct Fourier inversion from the angles and shifts in the table.

    Writes map.mrc, half1.mrc, half2.mrc, mask.mrc, and fsc.star and fsc.json of the half maps.
    """
    group_order = len(symmetry_rotations(symmetry))
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    if particles.poses is None:
        raise InputError(f"{stack} holds no poses ({pose_columns(stack)}): run `clarice abinitio` first")
    box = particles.box if working_box is None else working_box
    frame = Frame.of(particles, box, diameter)
    expected = reconstruction(len(particles), particles.box, box, group_order)
    keep_apart(output, WRITES, files_read(particles, stack, passthrough))
    insist_on_place(output)
    foretell("the map", expected, output, told)
    make_folder(output)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, box, progress)
        half_set = all_half_sets(particles, seed)
        assert prepared.particles.poses is not None
        found = reconstruct_from_poses(
            prepared.noisy_set,
            prepared.particles.poses,
            half_set,
            frame.diameter_px,
            symmetry,
            progress,
        )
    pixel = prepared.preparation.working_pixel_size_angstrom
    volume, (half1, half2) = found.volume.numpy(), found.halves.numpy()
    mask = mask_from_map(volume)
    write_maps(output, pixel, {"map": volume, "half1": half1, "half2": half2, "mask": mask})
    stated = write_fsc(output, (half1, half2), mask, pixel, seed)
    for warning in half_map_warnings(half1, half2):
        console.print(f"warning: {warning}", markup=False)
    show_resolution(stated.words, pixel, output)
