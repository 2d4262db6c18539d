"""RELION's 2D classification as a denoiser: each particle's class average, turned back on to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.benchmark import peer_relion as relion
from clarice.benchmark.denoise_classes import turned_back
from clarice.benchmark.denoise_sets import Images, ImageSet
from clarice.benchmark.protocol import SimulatedStack
from clarice.core.errors import ResourceError
from clarice.core.particles import ArraySource, ParticleSet
from clarice.io.mrc import read_mrc
from clarice.io.paths import split_image_names
from clarice.io.relion import IMAGE_NAME, read_fields, relion_table
from clarice.io.star import read_star
from clarice.physics.defocus import unit_optics
from clarice.physics.simulate import SimulatedSet, SimulationSettings
from clarice.physics.simulation_files import write_simulation

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RelionClasses:
    """Images (n, L, L), each its class average turned back; class and angle of each; the seconds RELION took."""

    images: Images
    label: NDArray[np.int64]
    angle_rad: FloatArray
    seconds: float


def class_averages(images: ImageSet, classes: int, folder: Path, settings: relion.RelionSettings) -> RelionClasses:
    """RELION's answer for a set, run in `folder`. Raises ResourceError when it fails."""
    stack = _written(images, folder / "data")
    job = relion.classify(stack, folder / "classes", settings, classes)
    if job.usage.failed:
        raise ResourceError(f"{relion.version()} failed: {job.usage.message}")
    averages, _ = read_mrc(job.volume)
    label, angle, shifts = _found(job.table, images)
    index = torch.from_numpy(label)
    back = turned_back(torch.from_numpy(averages), index, torch.from_numpy(angle), torch.from_numpy(shifts))
    return RelionClasses(back.numpy(), label, angle, job.usage.seconds)


def _written(images: ImageSet, folder: Path) -> SimulatedStack:
    """The set as RELION reads it."""
    folder.mkdir(parents=True)
    count, box = len(images), images.box
    optics = unit_optics(count, 300.0) if images.optics is None else images.optics
    micrograph = np.array(["micrograph_0001.mrc"] * count)
    particles = ParticleSet(ArraySource(images.noisy), images.pixel_size_angstrom, optics=optics, micrograph=micrograph)
    settings = SimulationSettings(count, box, images.number)
    nothing, flat = np.zeros((box, box, box), dtype=np.float32), np.ones(box // 2 + 1, dtype=np.float32)
    made = SimulatedSet(particles, images.noisy, images.clean, images.poses, nothing, settings, 1.0, flat)
    write_simulation(made, folder, specimen=images.subject.entry)
    return SimulatedStack(folder, images.subject, images.number, images.poses, images.pixel_size_angstrom, box)


def _found(path: Path, images: ImageSet) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Class from 0, angle that turns the class on to the particle, and shift in pixels, in the order of the set."""
    table = relion_table(path, read_star(path))
    if table is None:
        raise ResourceError(f"RELION wrote no particle table {path}")
    fields = read_fields(table, images.pixel_size_angstrom)
    poses, classes = fields["poses"], fields["class_number"]
    sections, _, _ = split_image_names(table.particles[IMAGE_NAME].tolist(), str(path))
    order = np.argsort(sections)
    rotations = poses.rotations[order]
    angle = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    return classes[order].astype(np.int64) - 1, angle, poses.shifts_px[order]
