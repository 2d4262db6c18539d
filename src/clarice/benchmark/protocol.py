"""The common ground of all protocols: settings, simulated stacks, and how a map, poses and classes are judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarice.benchmark.records import Column, Row
from clarice.benchmark.structures import Subject, defocus_table
from clarice.core.errors import InputError
from clarice.core.particles import Poses
from clarice.core.progress import Progress, silent
from clarice.geometry.so3 import sphere_grid, symmetry_rotations
from clarice.io.paths import split_image_names
from clarice.io.relion import IMAGE_NAME, read_fields, relion_table
from clarice.io.stack import open_particles
from clarice.io.star import read_star
from clarice.metrics.clusters import purity, view_spread
from clarice.metrics.image import ImageScores, image_scores
from clarice.metrics.map_files import Cube, on_grid_of, read_cube
from clarice.metrics.orientation import orientation_errors
from clarice.metrics.registration import register
from clarice.metrics.shells import frc, fsc, resolution_at
from clarice.physics.simulate import SimulationSettings, simulate
from clarice.physics.simulation_files import write_simulation

# A map is the right structure when its FSC with the truth holds 0.5 to this many pixels.
RIGHT_WITHIN_PX = 4.0
# Structures whose pixel is finer lose signal to the CTF's oscillations within so small a box.
FINEST_PIXEL_ANGSTROM = 2.5
# What tables tell of a map that was judged, and the row of one that never came to be.
MAP_COLUMNS = (
    Column("structure", "verdict"),
    Column("FSC 0.5, px", "fsc_05_px", "{:.2f}"),
    Column("FSC 0.5, Å", "fsc_05_angstrom", "{:.1f}"),
    Column("FSC 0.143, Å", "fsc_0143_angstrom", "{:.1f}"),
    Column("Nyquist, Å", "nyquist_angstrom", "{:.1f}"),
)
FAILED: Row = {"verdict": "failed", "right": False, "failed": True}
# Images that are compared with the truth at once.
_IMAGES_AT_ONCE = 1000
# A class smaller than this share of an even one has not survived.
SURVIVING_SHARE = 0.2


@dataclass(frozen=True)
class StackSettings:
    """How stacks are simulated; defaults are the protocols' own."""

    particles: int = 2000
    box: int = 64
    snr: float = 0.1
    max_shift_px: float = 3.0
    defocus_groups: int = 50
    ctf: bool = True

    def simulation(self, seed: int, ctf_table: Path | None) -> SimulationSettings:
        """Settings of one stack."""
        return SimulationSettings(
            particles=self.particles,
            box=self.box,
            seed=seed,
            snr=self.snr,
            max_shift_px=self.max_shift_px,
            defocus_groups=self.defocus_groups,
            ctf=self.ctf,
            ctf_table=ctf_table,
        )

    def record(self, data: Path | None, threads: int) -> dict[str, Any]:
        """The settings as results state them; `ctf` where there is none."""
        return {
            **{name: value for name, value in vars(self).items() if name != "ctf" or not value},
            "pixel_size": "largest diameter / (0.65 × box)",
            "views": "uniform",
            "defocus": "EMPIAR-10028 table" if defocus_table(data) else "model of EMPIAR-10028",
            "threads": threads,
        }


@dataclass(frozen=True)
class SimulatedStack:
    """A simulated stack in a folder, and what is true of it."""

    folder: Path
    subject: Subject
    seed: int
    truth: Poses
    pixel_size_angstrom: float
    box: int

    @property
    def star(self) -> Path:
        """The particles as a user has them: no truth in it."""
        return self.folder / "particles.star"

    @property
    def clean(self) -> Path:
        """The noise- and CTF-free projections that the particles show."""
        return self.folder / "clean.mrcs"

    @property
    def true_map(self) -> Path:
        """The map whose projections the particles are."""
        return self.folder / "map.mrc"

    def true_views(self) -> NDArray[np.float64]:
        """True rotations (n, 3, 3) in the axes of the structure's point group."""
        return self.subject.point_group.in_frame(self.truth.rotations)


def make_stack(
    subject: Subject,
    seed: int,
    settings: StackSettings,
    folder: Path,
    data: Path | None,
    progress: Progress = silent,
) -> SimulatedStack:
    """Simulates a stack of `subject` into `folder`, as `clarice simulate` does."""
    simulated = simulate(subject.atoms, settings.simulation(seed, defocus_table(data)), progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    write_simulation(simulated, folder, specimen=f"{subject.source} {subject.entry}")
    return SimulatedStack(folder, subject, seed, simulated.poses, simulated.particles.pixel_size_angstrom, settings.box)


@dataclass(frozen=True)
class MapScores:
    """A map against the truth, after the best rotation, shift and hand; resolutions in Å and in pixels."""

    fsc_05_angstrom: float
    fsc_05_px: float
    fsc_0143_angstrom: float
    fsc_0143_px: float
    nyquist_angstrom: float
    correlation: float
    hand: str
    right: bool


@dataclass(frozen=True)
class LaidMap:
    """A map (L, L, L) where it lies on the truth, its FSC with it (L // 2 + 1,), and its scores."""

    scores: MapScores
    volume: NDArray[np.float32]
    curve: NDArray[np.float64]


def judge_map(path: Path, stack: SimulatedStack) -> MapScores:
    """Scores of the map at `path`, on the grid of the stack."""
    return lay_map(path, stack).scores


def lay_map(path: Path, stack: SimulatedStack) -> LaidMap:
    """The map at `path`, on the grid of the stack and registered to its truth."""
    truth = read_cube(stack.true_map)
    return laid_on(on_grid_of(read_cube(path), truth), truth)


def laid_on(found: Cube, truth: Cube) -> LaidMap:
    """`found` registered to `truth`, cubes on one grid."""
    registered = register(found.values, truth.values)
    curve = fsc(registered.volume, truth.values)
    size = truth.pixel_size_angstrom
    half, low = (resolution_at(curve, threshold, size, truth.box) for threshold in (0.5, 0.143))
    scores = MapScores(
        fsc_05_angstrom=round(half, 3),
        fsc_05_px=round(half / size, 3),
        fsc_0143_angstrom=round(low, 3),
        fsc_0143_px=round(low / size, 3),
        nyquist_angstrom=round(2 * size, 3),
        correlation=round(registered.correlation, 4),
        hand="mirrored" if registered.mirrored else "as it is",
        right=half <= RIGHT_WITHIN_PX * size,
    )
    return LaidMap(scores, np.asarray(registered.volume, dtype=np.float32), np.asarray(curve, dtype=np.float64))


@dataclass(frozen=True)
class FoundRows:
    """What a particle table says of each particle of a simulated stack, in the stack's order."""

    rotations: NDArray[np.float64] | None
    class_number: NDArray[np.int32] | None


def read_rows(path: Path, stack: SimulatedStack) -> FoundRows:
    """Angles and classes of the STAR table at `path`, matched to the stack by section number.

    Raises InputError when a particle is missing.
    """
    table = relion_table(path, read_star(path))
    if table is None:
        raise InputError(f"{path} is not a particle table: no block has the column _rlnImageName")
    sections, _, files = split_image_names(table.particles[IMAGE_NAME].tolist(), str(path))
    count = len(stack.truth)
    if len(files) != 1 or not np.array_equal(np.sort(sections), np.arange(count)):
        raise InputError(f"{path} does not list each of the {count} particles of {stack.star} once")
    order = np.argsort(sections)
    fields = read_fields(table, stack.pixel_size_angstrom)
    poses, classes = fields["poses"], fields.get("class_number")
    return FoundRows(None if poses is None else poses.rotations[order], None if classes is None else classes[order])


def judge_poses(path: Path, stack: SimulatedStack) -> dict[str, float]:
    """Orientation errors in degrees of the poses in the table at `path`, modulo the structure's symmetry."""
    found = read_rows(path, stack).rotations
    if found is None:
        raise InputError(f"{path} has no poses: its angles (_rlnAngleRot, Tilt, Psi) are missing")
    errors = orientation_errors(found, stack.true_views(), symmetry=stack.subject.point_group.name)
    return {
        "orientation_median_deg": round(float(np.median(errors.angle_deg)), 3),
        "orientation_mean_deg": round(float(errors.angle_deg.mean()), 3),
        "view_median_deg": round(float(np.median(errors.view_deg)), 3),
        "within_10_deg": round(float((errors.angle_deg <= 10).mean()), 4),
    }


def judge_images(path: Path, stack: SimulatedStack) -> dict[str, float]:
    """Error of the denoised particles in the table at `path` against the projections they show, and their FRC.

    Raises InputError when they are not as many or not in the same box.
    """
    found = open_particles(path)
    truth = open_particles(stack.clean, pixel_size_angstrom=stack.pixel_size_angstrom)
    if len(found) != len(truth) or found.box != truth.box:
        raise InputError(f"{path} does not hold the {len(truth)} particles of {stack.star} in their box")
    parts: list[ImageScores] = []
    curve = np.zeros(found.box // 2 + 1)
    for rows, images in found.chunks(_IMAGES_AT_ONCE):
        clean = truth.read(rows)
        parts.append(image_scores(images, clean))
        curve += frc(images, clean).sum(axis=0) / len(found)
    resolution = resolution_at(curve, 0.5, stack.pixel_size_angstrom, stack.box)
    return {
        "relative_mse": round(ImageScores.joined(parts).relative_mse, 4),
        "frc_05_angstrom": round(resolution, 3),
    }


def judge_classes(path: Path, stack: SimulatedStack, classes: int) -> dict[str, float]:
    """Spread of true views inside the classes of the table at `path`, and their purity.

    True classes are the cells of a quasi-uniform grid of `classes` directions. Views are taken modulo the
    structure's symmetry; those from opposite sides are different ones.
    """
    found, views = read_rows(path, stack).class_number, stack.true_views()
    if found is None:
        raise InputError(f"{path} has no classes: the column _rlnClassNumber is missing")
    symmetry = stack.subject.point_group.name
    spread = view_spread(views, found, symmetry=symmetry)
    cells = _cells(views, stack, classes)
    smallest = SURVIVING_SHARE * len(found) / classes
    return {
        "view_spread_deg": round(spread.overall_deg, 3),
        "purity": round(purity(found, cells), 4),
        "classes": int((spread.sizes >= smallest).sum()),
    }


def _cells(views: NDArray[np.float64], stack: SimulatedStack, classes: int) -> NDArray[np.int64]:
    """The nearest of `classes` directions to each view, modulo symmetry."""
    group = symmetry_rotations(stack.subject.point_group.name)
    copies = np.einsum("gij,nj->gni", group, views[:, 2, :])
    return np.asarray(np.argmax((copies @ sphere_grid(classes).T).max(axis=0), axis=1), dtype=np.int64)
