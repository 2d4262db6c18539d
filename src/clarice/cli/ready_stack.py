"""A stack made ready for three dimensions, and its table written back with poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarice.core.particles import ParticleSet, Poses
from clarice.io.stack import write_particles
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.frame import Frame
from clarice.pipeline.prepare import Prepared


@dataclass(frozen=True)
class ReadyStack:
    """A stack prepared for three dimensions, with the job's lengths in working pixels."""

    particles: ParticleSet
    prepared: Prepared
    frame: Frame

    @property
    def noisy(self) -> NoisySet:
        """The particles as methods are given them."""
        return self.prepared.noisy_set

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the working box."""
        return self.prepared.preparation.working_pixel_size_angstrom

    def write_poses(self, path: Path, poses: Poses, confidence: NDArray[np.floating], **more: Any) -> None:
        """The input's table with poses for the raw stack."""
        scale = self.pixel_size_angstrom / self.particles.pixel_size_angstrom
        raw = Poses(poses.rotations, poses.shifts_px * scale)
        extra = {"rlnMaxValueProbDistribution": confidence}
        write_particles(self.particles, path, poses=raw, extra_columns=extra, **more)
