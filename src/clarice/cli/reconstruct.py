"""`clarice reconstruct`: a map from the poses a table holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from clarice.abinitio.from_poses import reconstruct_from_poses
from clarice.abinitio.half_sets import assign_half_sets
from clarice.cli.console import console, showing_progress
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
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles
from clarice.metrics.masks import mask_from_map
from clarice.metrics.shells import half_map_fsc, resolution_at
from clarice.pipeline.frame import Frame

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
    """Reconstruct a map by direct Fourier inversion from the angles and shifts in the table."""
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    if particles.poses is None:
        raise InputError(
            f"{stack} holds no poses (_rlnAngleRot, _rlnAngleTilt, _rlnAnglePsi): run `clarice abinitio` first"
        )
    box = working_box or particles.box
    frame = Frame.of(particles, box, diameter)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, box, progress)
        half_set = assign_half_sets(len(particles), seed, particles.half_set, particles.micrograph)
        assert prepared.particles.poses is not None
        found = reconstruct_from_poses(
            prepared.noisy_set,
            prepared.particles.poses,
            half_set,
            frame.diameter_px,
            symmetry,
            progress,
        )
    output.mkdir(parents=True, exist_ok=True)
    pixel = prepared.preparation.working_pixel_size_angstrom
    for name, volume in (("map", found.volume), ("half1", found.halves[0]), ("half2", found.halves[1])):
        write_mrc(output / f"{name}.mrc", volume.numpy(), pixel, is_volume=True)
    mask = mask_from_map(found.volume.numpy())
    curves = half_map_fsc(found.halves[0], found.halves[1], mask, torch.Generator().manual_seed(seed))
    resolution = resolution_at(curves.corrected, 0.143, pixel, box)
    console.print(f"{resolution:.1f} Å at FSC 0.143 (Nyquist {2 * pixel:.1f} Å): {output / 'map.mrc'}", markup=False)
