"""Maps from denoised images: how well their halves agree, and how well they agree with the truth.

Halves of denoised images share what the denoiser put into both, so that they may agree where the map is wrong. Beside
each map stands that of the raw particles at the same poses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clarice.abinitio.from_poses import reconstruct_from_poses
from clarice.abinitio.half_sets import assign_half_sets
from clarice.abinitio.pose_assignment import lay_on
from clarice.abinitio.refinement import Settings
from clarice.benchmark.denoise_sets import MAX_SHIFT_PX, Images, ImageSet
from clarice.core.particles import ArraySource, ParticleSet, Poses
from clarice.metrics.orientation import orientation_errors
from clarice.metrics.shells import fsc, resolution_at
from clarice.physics.noisy_set import NoisySet, white_set

# Of the box: the particle's sphere, and the Fourier radius up to which images are compared with the true map.
DIAMETER_SHARE, COMPARED_SHARE = 0.7, 1 / 5


@dataclass(frozen=True)
class MapFigures:
    """In pixels: where halves fall below 0.143, and where the map's FSC with the truth falls below 0.5."""

    halves_px: float
    truth_px: float

    def named(self, what: str) -> dict[str, float]:
        """As columns of a row."""
        return {f"{what}_halves_px": round(self.halves_px, 3), f"{what}_truth_px": round(self.truth_px, 3)}


def map_figures(images: ImageSet, denoised: Images, volume: Images, seed: int) -> dict[str, float]:
    """What the maps of one structure are like, from its `denoised` images (n, L, L) and from its raw ones.

    With the true poses, and with those found by laying each denoised image on the true map (L, L, L) up to a fifth of
    the box: how denoising changes what can be told of a pose, apart from how a first map is found.
    """
    found = white_set(ParticleSet(ArraySource(denoised), images.pixel_size_angstrom))
    laid = _laid(found, volume, seed)
    figures = {
        **_figures(found, images.poses, volume, seed).named("true"),
        **_figures(found, laid, volume, seed).named("estimated"),
        **_figures(images.noisy_set(), laid, volume, seed).named("raw_estimated"),
    }
    group = images.subject.point_group  # C1 where nobody looked into it
    turned = (group.in_frame(poses.rotations) for poses in (laid, images.poses))
    error = orientation_errors(*turned, symmetry=group.name, both_hands=False)
    return {**figures, "orientation_deg": round(float(np.median(error.angle_deg)), 2)}


def raw_figures(images: ImageSet, volume: Images, seed: int) -> dict[str, float]:
    """The same of the raw particles: with the true poses, and with those found from the raw particles themselves."""
    raw = images.noisy_set()
    laid = _laid(raw, volume, seed)
    estimated = _figures(raw, laid, volume, seed)
    return {
        **_figures(raw, images.poses, volume, seed).named("true"),
        **estimated.named("estimated"),
        **estimated.named("raw_estimated"),
    }


def _laid(particles: NoisySet, volume: Images, seed: int) -> Poses:
    box = particles.box
    settings = Settings(
        DIAMETER_SHARE * box, max_shift_px=MAX_SHIFT_PX + 1, start_radius_px=COMPARED_SHARE * box, seed=seed
    )
    return lay_on(particles, torch.from_numpy(volume), settings).poses


def _figures(particles: NoisySet, poses: Poses, volume: Images, seed: int) -> MapFigures:
    box = particles.box
    half_set = assign_half_sets(len(particles), seed)
    found = reconstruct_from_poses(particles, poses, half_set, DIAMETER_SHARE * box)
    with_truth = fsc(found.volume.numpy(), volume)
    return MapFigures(resolution_at(found.fsc, 0.143, 1.0, box), resolution_at(with_truth, 0.5, 1.0, box))
