"""The main job: from a particle stack to denoised particles, classes, a refined map and poses, in one run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clarice.abinitio.refinement import Settings as RefinementSettings
from clarice.core.counting import counted
from clarice.core.errors import ClariceError, InputError, OutputError, UsageError
from clarice.core.large_array import IN_MEMORY_BYTES
from clarice.core.particles import ParticleSet
from clarice.core.progress import Progress, silent
from clarice.denoise.trained import weights_of
from clarice.geometry.so3 import symmetry_rotations
from clarice.pipeline.class_stages import classify, select
from clarice.pipeline.control_stage import controls
from clarice.pipeline.engine import execute
from clarice.pipeline.first_map_settings import FirstMapSettings, Method
from clarice.pipeline.frame import Frame
from clarice.pipeline.job_settings import STAGE_NAMES, JobSettings, checked
from clarice.pipeline.map_control_stage import control_map
from clarice.pipeline.map_controls import IMAGES as MAP_IMAGES
from clarice.pipeline.map_stages import abinitio, export, refine
from clarice.pipeline.memory import (
    classifying,
    controlling,
    controlling_map,
    grown,
    images_mb,
    on_images_mb,
    postprocessing,
    refinement,
    volume_mb,
)
from clarice.pipeline.null_controls import IMAGES
from clarice.pipeline.particle_stages import check, denoise, prepare
from clarice.pipeline.postprocess import postprocess
from clarice.pipeline.preflight.concerns import FEWEST_FOR_A_MAP
from clarice.pipeline.run_folder import nobody, open_run
from clarice.pipeline.run_record import read_record
from clarice.pipeline.stack_input import StackInput
from clarice.pipeline.stages import Estimate, Stage

PARTICLES_PER_CLASS, MOST_CLASSES = 60, 50
# Maps in memory while rows left out are laid on the finished one.
MAPS_OF_EXPORT = 15


def nobody_at_the_end(folder: Path) -> None:
    """Does nothing with the run folder."""


def default_class_count(particles: int) -> int:
    """One class for every 60 particles, 50 at most."""
    return int(np.clip(round(particles / PARTICLES_PER_CLASS), 1, MOST_CLASSES))


def stages(stack: StackInput, particles: ParticleSet, settings: JobSettings) -> list[Stage]:
    """The job's stages with their parameters and estimates, in order."""
    lengths = (settings.working_box, settings.diameter_angstrom, settings.max_shift_angstrom)
    sizes, seed = Frame.of(particles, *lengths), settings.seed
    frame: dict[str, Any] = {"diameter_px": sizes.diameter_px, "max_shift_px": sizes.max_shift_px}
    group_order = len(symmetry_rotations(settings.symmetry))
    size = (len(particles), particles.box, sizes.working_box)
    estimate = _Estimator(*size)
    # Denoised images are kept until the stage is done; those of a large stack wait for their turn on the disk as well.
    waiting = 1 + int(4 * len(particles) * sizes.working_box**2 > IN_MEMORY_BYTES)
    first = FirstMapSettings(
        sizes.diameter_px,
        Method(settings.first_map),
        settings.starts,
        denoiser=settings.method,
        symmetry=settings.symmetry,
        max_shift_px=sizes.max_shift_px,
        seed=seed,
    )
    first.insist_on_sense()
    if not first.denoises:
        first = replace(first, denoiser=FirstMapSettings.denoiser)  # another one would change nothing
    return [
        check(stack, contrast=settings.contrast, ctf_state=settings.ctf_state).expecting(estimate(1)),
        prepare(stack, working_box=sizes.working_box).expecting(estimate(2, disk_images=1)),
        denoise(stack, method=settings.method, weights=weights_of(settings.method), seed=seed).expecting(
            estimate(3, disk_raw_images=1, disk_images=waiting)
        ),
        classify(
            stack,
            whereabouts=stack.whereabouts(),
            n_classes=settings.classes or default_class_count(len(particles)),
            iterations=settings.iterations,
            diameter_px=sizes.diameter_px,
            seed=seed,
        ).expecting(classifying(*size)),
        select(stack, whereabouts=stack.whereabouts(), selection=settings.selection).expecting(estimate(1)),
        abinitio(first).expecting(first.estimate(*size, denoised_before=True)),
        refine(**frame, symmetry=settings.symmetry, seed=seed).expecting(
            refinement(*size, group_order, RefinementSettings(0.0).most_iterations)
        ),
        postprocess().expecting(postprocessing(sizes.working_box)),
        controls(
            method=settings.method, weights=weights_of(settings.method), diameter_px=sizes.diameter_px, seed=seed
        ).expecting(controlling(min(len(particles), IMAGES), sizes.working_box)),
        control_map(**frame, symmetry=settings.symmetry, seed=seed).expecting(
            controlling_map(min(len(particles), MAP_IMAGES), particles.box, sizes.working_box)
        ),
        export(stack, whereabouts=stack.whereabouts(), **frame, symmetry=settings.symmetry, seed=seed).expecting(
            estimate(1, maps_held=MAPS_OF_EXPORT)
        ),
    ]


@dataclass(frozen=True)
class _Estimator:
    """Time by measured growth: two cores, 64 px, per 1,000 particles. Memory by what the stages hold."""

    particles: int
    box: int
    working_box: int

    def __call__(
        self,
        seconds: float,
        *,
        images_held: float = 1,
        maps_held: float = 0,
        disk_images: float = 0,
        disk_raw_images: float = 0,
    ) -> Estimate:
        working_mb, raw_mb = (images_mb(self.particles, box) for box in (self.working_box, self.box))
        return Estimate(
            seconds=grown(seconds, self.particles, self.working_box),
            memory_mb=on_images_mb(self.particles, self.box)
            + images_held * working_mb
            + maps_held * volume_mb(self.working_box),
            disk_mb=disk_images * working_mb + disk_raw_images * raw_mb,
        )


def run_job(
    stack: StackInput,
    folder: Path,
    settings: JobSettings,
    *,
    command: str = "clarice.run",
    progress: Progress = silent,
    tell: Callable[[str], None] = nobody,
    at_the_end: Callable[[Path], object] = nobody_at_the_end,
) -> Path:
    """Brings the run folder up to date with the stack and the settings; returns the folder.

    `at_the_end` is handed the folder while this run still holds it, whether the job ended well or not.

    Raises InputError, UsageError, OutputError or ResourceError, with what was finished kept for the next call.
    """
    settings = checked(settings)
    particles = stack.open()
    _check_count(len(particles), stack, settings.last_stage)
    if settings.classes is not None and settings.classes > len(particles):
        raise UsageError(
            f"{counted(len(particles), 'particle')} cannot make {settings.classes} classes: pass fewer --classes"
        )
    plan = stages(stack, particles, settings)
    _insist_on_other_files(stack, folder, plan)
    sha256 = _sha256(stack.table)
    _insist_on_same_stack(stack, sha256, folder)
    arguments = {**stack.as_arguments(), "output": str(folder), **asdict(settings)}
    with open_run(folder, command=command, arguments=arguments, seed=settings.seed, tell=tell) as run:
        run.describe_input(
            path=str(stack.table),
            sha256=sha256,
            particles=len(particles),
            box=particles.box,
            pixel_size_angstrom=particles.pixel_size_angstrom,
        )
        try:
            execute(run, plan, progress=progress, until=settings.last_stage)
        except BaseException:
            with suppress(ClariceError):
                at_the_end(folder)
            raise
        at_the_end(folder)
    return folder


def _insist_on_other_files(stack: StackInput, folder: Path, plan: Sequence[Stage]) -> None:
    """Raises UsageError when a stage would replace a file that the job starts from."""
    written = [folder / name for stage in plan for name in stage.outputs]
    for source in (stack.table, *stack.passthrough, *stack.images):
        if any(path.exists() and path.samefile(source) for path in written):
            raise UsageError(f"{source} is a file of the run in {folder}, which writes it anew: name another --output")


def _insist_on_same_stack(stack: StackInput, sha256: str, folder: Path) -> None:
    """Raises OutputError when the folder is a run of another table: its results would be lost, or mixed with these.

    A table that was edited where it lies, or moved as it was, is the same.
    """
    older = read_record(folder) if folder.is_dir() else None
    before = None if older is None else older.input
    if not before or before.get("sha256") == sha256:
        return
    path = Path(str(before.get("path")))
    if path.resolve() != stack.table.resolve():
        raise OutputError(f"{folder} is the run of {path}: choose another folder for {stack.table}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_count(count: int, stack: StackInput, last_stage: str | None) -> None:
    """A map needs particles from enough sides; two dimensions can do with fewer."""
    if count < FEWEST_FOR_A_MAP and (last_stage is None or STAGE_NAMES.index(last_stage) > STAGE_NAMES.index("select")):
        raise InputError(
            f"{stack.table} has {counted(count, 'particle')}, too few for a map, which needs {FEWEST_FOR_A_MAP}: "
            "pass --until select to stop after the 2D classes"
        )
