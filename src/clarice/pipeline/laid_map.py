"""Particles laid on a rough map and put together at their poses: what every way to a first map ends with."""

from __future__ import annotations

from torch import Tensor

from clarice.abinitio.from_poses import Reconstruction, reconstruct_from_poses
from clarice.abinitio.half_sets import assign_half_sets
from clarice.abinitio.pose_assignment import lay_on
from clarice.abinitio.reconstruct import agreed_radius
from clarice.core.particles import Poses
from clarice.core.progress import Progress
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.first_map_settings import FirstMapSettings

# The half maps' FSC down to which their map is looked at, and the least radius to look at.
_LEAST_AGREEMENT, _LEAST_RADIUS = 0.5, 2


def map_at(particles: NoisySet, poses: Poses, settings: FirstMapSettings, progress: Progress) -> Reconstruction:
    """The map of particles at known poses."""
    half_set = assign_half_sets(len(particles), settings.seed)
    return reconstruct_from_poses(particles, poses, half_set, settings.diameter_px, settings.symmetry, progress)


def map_laid_on(
    particles: NoisySet, rough: Tensor, radius_px: float, settings: FirstMapSettings, progress: Progress
) -> Reconstruction:
    """The map of particles laid on a rough one (L, L, L) that holds rings up to `radius_px`."""
    progress("laying particles", 0, len(particles))
    laid = lay_on(particles, rough, settings.laying(particles.box, radius_px))
    return map_at(particles, laid.poses, settings, progress)


def finest_ring(found: Reconstruction, settings: FirstMapSettings) -> float:
    """The last Fourier radius to which the half maps agree well."""
    agreed = agreed_radius(found.fsc, found.volume.shape[-1], settings.diameter_px, _LEAST_AGREEMENT)
    return float(max(_LEAST_RADIUS, agreed))
