"""`clarice abinitio` and `clarice refine`: a first map from random starts, and its refinement in half sets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from clarice.abinitio import projection_matching, refinement
from clarice.abinitio.grey_scale import matched_scale
from clarice.abinitio.half_sets import assign_half_sets
from clarice.cli.console import console, showing_progress
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
from clarice.core.errors import InputError
from clarice.core.particles import ParticleSet, Poses
from clarice.core.progress import Progress
from clarice.io.atomic import writing
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.stack import open_particles, write_particles
from clarice.metrics.masks import mask_from_map
from clarice.metrics.registration import resample
from clarice.metrics.shells import half_map_fsc, resolution_at
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.frame import Frame
from clarice.pipeline.map_stages import mirrored
from clarice.pipeline.prepare import Prepared

_O = typer.Option


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command("abinitio")(abinitio)
    app.command("refine")(refine)


@dataclass(frozen=True)
class _Ready:
    """A stack prepared for three dimensions, with the job's lengths in working pixels."""

    particles: ParticleSet
    prepared: Prepared
    frame: Frame

    @property
    def noisy(self) -> NoisySet:
        return self.prepared.noisy_set

    @property
    def pixel_size_angstrom(self) -> float:
        return self.prepared.preparation.working_pixel_size_angstrom

    def write_map(self, path: Path, volume: torch.Tensor | NDArray[np.float32]) -> None:
        write_mrc(path, np.ascontiguousarray(volume), self.pixel_size_angstrom, is_volume=True)

    def write_poses(self, path: Path, poses: Poses, confidence: NDArray[np.floating], **more: Any) -> None:
        """The input's table with poses for the raw stack."""
        scale = self.pixel_size_angstrom / self.particles.pixel_size_angstrom
        raw = Poses(poses.rotations, poses.shifts_px * scale)
        extra = {"rlnMaxValueProbDistribution": confidence}
        write_particles(self.particles, path, poses=raw, extra_columns=extra, **more)


def abinitio(
    stack: StackArgument,
    output: Annotated[Path, _O("-o", "--output", help="Folder to write abinitio.mrc and particles.star to.")],
    starts: Annotated[int, _O(help="Random starts; the one that explains held-out particles best is kept.")] = 4,
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
    """Find a first map by projection matching from random starts.

    Writes abinitio.mrc and abinitio_mirror.mrc (the hand is not known), particles.star with poses, and
    abinitio.json with the likelihood of every start.
    """
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    frame = Frame.of(particles, working_box, diameter, max_shift)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, working_box, progress)
        ready = _Ready(particles, prepared, frame)
        settings = projection_matching.Settings(
            frame.diameter_px, starts=starts, symmetry=symmetry, max_shift_px=frame.max_shift_px, seed=seed
        )
        found = projection_matching.initial_map(ready.noisy, settings, progress)
        on_map = refinement.Settings(
            frame.diameter_px, max_shift_px=frame.max_shift_px, start_radius_px=found.radius_px, seed=seed
        )
        poses, confidence = refinement.lay_on(ready.noisy, found.volume, on_map)
    output.mkdir(parents=True, exist_ok=True)
    ready.write_map(output / "abinitio.mrc", found.volume.numpy())
    ready.write_map(output / "abinitio_mirror.mrc", mirrored(found.volume.numpy()))
    ready.write_poses(output / "particles.star", poses, confidence)
    _write_json(
        output / "abinitio.json",
        {"starts": [vars(start) for start in found.starts], "chosen": found.chosen, "radius_px": found.radius_px},
    )
    console.print(f"start {found.chosen + 1} of {starts}: {output / 'abinitio.mrc'}", markup=False)


def refine(
    stack: StackArgument,
    start: Annotated[Path, _O("--map", help="Map to start from, such as abinitio.mrc.")],
    output: Annotated[Path, _O("-o", "--output", help="Folder to write map.mrc, half maps and particles.star to.")],
    start_resolution: Annotated[float | None, _O(help="Low-pass of the start, Å; coarse if absent.")] = None,
    iterations: Annotated[int, _O(help="Iterations.")] = 6,
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
    """Refine a map on the raw particles, in half sets that stay apart (known ones, else by micrograph)."""
    particles = open_particles(stack, root, passthrough, pixel_size, optics_group)
    frame = Frame.of(particles, working_box, diameter, max_shift)
    with showing_progress() as progress:
        prepared = prepare_stack(particles, stack, contrast, ctf_state, working_box, progress)
        ready = _Ready(particles, prepared, frame)
        half_set = assign_half_sets(len(particles), seed, particles.half_set, particles.micrograph)
        refined = _refine(ready, start, start_resolution, iterations, symmetry, seed, half_set, progress)
    output.mkdir(parents=True, exist_ok=True)
    volume, (half1, half2) = refined.volume.numpy(), refined.halves.numpy()
    for name, content in (("map", volume), ("map_mirror", mirrored(volume)), ("half1", half1), ("half2", half2)):
        ready.write_map(output / f"{name}.mrc", content)
    ready.write_poses(output / "particles.star", refined.poses, refined.confidence, half_set=half_set)
    curves = half_map_fsc(half1, half2, mask_from_map(volume), torch.Generator().manual_seed(seed))
    pixel = ready.pixel_size_angstrom
    resolution = resolution_at(curves.corrected, 0.143, pixel, len(volume))
    _write_json(output / "fsc.json", {"resolution_angstrom": {"0.143": resolution}, "nyquist_angstrom": 2 * pixel})
    console.print(f"{resolution:.1f} Å at FSC 0.143 (Nyquist {2 * pixel:.1f} Å): {output / 'map.mrc'}", markup=False)


def _refine(
    ready: _Ready,
    start: Path,
    start_resolution: float | None,
    iterations: int,
    symmetry: str,
    seed: int,
    half_set: NDArray[np.int8],
    progress: Progress,
) -> refinement.Refined:
    box, pixel = ready.noisy.box, ready.pixel_size_angstrom
    values, map_pixel = read_mrc(start)
    if values.ndim != 3 or len(set(values.shape)) != 1:
        raise InputError(f"{start} is not a cubic map: its shape is {values.shape}")
    volume = torch.from_numpy(resample(values, box, pixel / map_pixel))
    radius = 6.5 * box / ready.frame.diameter_px if start_resolution is None else box * pixel / start_resolution
    settings = refinement.Settings(
        ready.frame.diameter_px,
        symmetry=symmetry,
        max_shift_px=ready.frame.max_shift_px,
        iterations=iterations,
        start_radius_px=radius,
        seed=seed,
    )
    volume = matched_scale(ready.noisy, volume, settings.diameter_px)
    return refinement.refine(ready.noisy, volume, half_set, settings, progress)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
