"""RELION on a simulated stack: 2D classes, and what it makes of our own results.

The stack's images are protein bright with unit noise about zero, as RELION wants them. RELION resolves image
names from its working folder, so every command is started in the stack's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from clarice.benchmark.measured import Usage, run_measured
from clarice.benchmark.protocol import SimulatedStack
from clarice.metrics.map_files import on_grid_of, read_cube
from clarice.metrics.shells import fsc, resolution_at

PROGRAMS = ("relion_refine", "relion_reconstruct")
# The circular mask, a little wider than the particle, which fills 65 % of the box.
MASK_SHARE = 0.75
CLASS_ITERATIONS, QUICK_CLASS_ITERATIONS = 10, 2
# Iterations of the initial model: at low resolution, in between, at the final one.
MODEL_ITERATIONS, QUICK_MODEL_ITERATIONS = (50, 150, 50), (5, 15, 5)
START_ITERATIONS = 1
# Images handed to the threads at once: few leave a thread waiting for the other.
POOL = 8
# What RELION says of every data set whose micrographs hold few particles; it concerns noise spectra only.
_EXPECTED_WARNINGS = ("particles in group", "consider joining some micrographs")


@dataclass(frozen=True)
class RelionSettings:
    """How RELION is run: threads, the longest time a command may take, its seed, and whether iterations are cut.

    `offset_range_px` is how far its initial model looks for shifts, None as far as ours by default; with `resume` an
    initial model that was broken off is gone on with.
    """

    threads: int = 2
    timeout_seconds: float = 7200.0
    seed: int = 1
    quick: bool = False
    offset_range_px: float | None = None
    resume: bool = False

    @property
    def class_iterations(self) -> int:
        """Iterations of 2D classification."""
        return QUICK_CLASS_ITERATIONS if self.quick else CLASS_ITERATIONS

    @property
    def model_iterations(self) -> tuple[int, int, int]:
        """Iterations of the initial model's three phases."""
        return QUICK_MODEL_ITERATIONS if self.quick else MODEL_ITERATIONS


@dataclass(frozen=True)
class RelionJob:
    """A RELION command: what it used, its results, and warnings it printed beyond the expected ones.

    `iteration` is that of the results where time ran out before the last.
    """

    usage: Usage
    table: Path
    volume: Path
    warnings: tuple[str, ...]
    iteration: int | None = None

    def ending(self) -> str | None:
        """What is to be said of a job that failed or that time ran out for; None for any other."""
        if self.iteration is None:
            return self.usage.message if self.usage.failed else None
        ended = f"ended after {self.usage.seconds:.0f} s in or after iteration {self.iteration}"
        return f"{ended}, whose map is judged: its whole time is longer"


def missing() -> str | None:
    """Why RELION cannot be run, None where it can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {' and '.join(absent)} not on the path" if absent else None


@cache
def version() -> str:
    """RELION's name and version, such as "RELION 3.1.3"."""
    told = subprocess.run(["relion_refine", "--version"], capture_output=True, text=True, check=False, timeout=60)
    number = re.search(r"version:?\s*([\w.]+)", told.stdout + told.stderr)
    return f"RELION {number[1]}" if number else "RELION"


def classify(stack: SimulatedStack, folder: Path, settings: RelionSettings, classes: int) -> RelionJob:
    """2D classification with RELION's usual options."""
    iterations = settings.class_iterations
    options = ["--K", classes, "--iter", iterations, "--tau2_fudge", 2, "--offset_range", 5, "--offset_step", 2]
    options += ["--psi_step", 12, "--norm", "--scale"]
    return _refine(stack, stack.star, folder, settings, options, f"run_it{iterations:03d}", "_classes.mrcs")


def start_refinement(
    stack: SimulatedStack, particles: Path, reference: Path, folder: Path, settings: RelionSettings
) -> RelionJob:
    """One iteration of 3D refinement around the angles in `particles`, from the map `reference`."""
    options = ["--ref", reference, "--firstiter_cc", "--ini_high", round(4 * stack.pixel_size_angstrom, 3)]
    options += ["--iter", START_ITERATIONS, "--sym", "C1", "--healpix_order", 3, "--sigma_ang", 5]
    options += ["--offset_range", 3, "--offset_step", 1, "--norm", "--scale"]
    root = f"run_it{START_ITERATIONS:03d}"
    return _refine(stack, particles, folder, settings, options, root, "_class001.mrc")


def _refine(
    stack: SimulatedStack,
    particles: Path,
    folder: Path,
    settings: RelionSettings,
    options: Sequence[object],
    root: str,
    volume_ending: str,
) -> RelionJob:
    """`relion_refine` into an emptied `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = refine_command(stack, particles, folder, settings, options)
    table, volume = folder / f"{root}_data.star", folder / f"{root}{volume_ending}"
    return run_job(stack, command, folder / "relion.log", settings, table, volume)


def refine_command(
    stack: SimulatedStack, particles: Path, folder: Path, settings: RelionSettings, options: Sequence[object]
) -> list[str]:
    """`relion_refine` with what all its jobs share: CTF, mask, threads, seed."""
    mask_angstrom = round(MASK_SHARE * stack.box * stack.pixel_size_angstrom, 2)
    shared = ["--i", particles, "--o", folder / "run", "--ctf", "--particle_diameter", mask_angstrom]
    shared += ["--zero_mask", "--flatten_solvent", "--oversampling", 1, "--pool", POOL, "--preread_images"]
    shared += ["--dont_combine_weights_via_disc", "--j", settings.threads, "--random_seed", settings.seed]
    return ["relion_refine", *map(str, (*shared, *options))]


def reconstruct(stack: SimulatedStack, particles: Path, volume: Path, settings: RelionSettings) -> RelionJob:
    """`relion_reconstruct` of the stack's images with the poses in `particles`."""
    volume.parent.mkdir(parents=True, exist_ok=True)
    command = ["relion_reconstruct", "--i", str(particles), "--o", str(volume), "--ctf"]
    return run_job(stack, command, volume.with_suffix(".log"), settings, particles, volume)


def run_job(
    stack: SimulatedStack, command: list[str], log: Path, settings: RelionSettings, table: Path, volume: Path
) -> RelionJob:
    """A RELION command in the stack's folder; one that ends without its `table` and `volume` has failed."""
    usage = run_measured(
        command,
        folder=stack.folder,
        log=log,
        threads=settings.threads,
        timeout_seconds=settings.timeout_seconds,
    )
    absent = [path.name for path in (table, volume) if not path.is_file()]
    if not usage.failed and absent:
        usage = replace(usage, status=1, message=f"{command[0]} ended without {' and '.join(absent)}")
    return RelionJob(usage, table, volume, warnings_in(log))


def warnings_in(log: Path) -> tuple[str, ...]:
    """Lines of a log that warn or tell of an error, beyond those RELION prints for every small data set."""
    lines = re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace"))
    telling = [line.strip() for line in lines if re.match(r"\s*(WARNING|ERROR)", line)]
    return tuple(line for line in telling if not any(known in line for known in _EXPECTED_WARNINGS))


@dataclass(frozen=True)
class Agreement:
    """A map of ours beside RELION's from our poses: to which Å the two agree, and what our run states."""

    agrees_to_angstrom: float
    stated_angstrom: float

    @property
    def beyond_stated(self) -> bool:
        """Whether the FSC holds 0.143 to the stated resolution or beyond."""
        return self.agrees_to_angstrom <= self.stated_angstrom * (1 + 1e-6)


def agreement(theirs: Path, ours: Path, stated_angstrom: float) -> Agreement:
    """FSC 0.143 of two maps that stand in one frame; RELION's is brought on the grid of ours."""
    our_map = read_cube(ours)
    their_map = on_grid_of(read_cube(theirs), our_map)
    curve = fsc(their_map.values, our_map.values)
    found = resolution_at(curve, 0.143, our_map.pixel_size_angstrom, our_map.box)
    return Agreement(round(found, 3), stated_angstrom)
