"""A first map by common lines: denoised particles are laid by their lines, raw ones put together at these poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.line_poses import LinePoses, poses_from_lines
from clarice.core.errors import InputError, UsageError
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import get_denoiser
from clarice.denoise.wiener import signal_spectrum
from clarice.geometry.fourier import centred_fft2, shell_mean
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.denoised_files import DenoisedBefore, DenoisedImages, denoise_some
from clarice.pipeline.first_map_settings import DENOISED_FOR_EACH, FirstMapSettings
from clarice.pipeline.laid_map import finest_ring, map_at, map_laid_on

FEWEST_PARTICLES = 20
# Errors of images that were denoised together are alike: so much less than it seems is known of a ray.
_INDEPENDENT = 0.5
# Signal over error of a Fourier coefficient: never taken for less, nor for more.
_SNR_RANGE = (1e-3, 100.0)


@dataclass(frozen=True)
class LineMap:
    """The map (L, L, L) of the particles `rows`, and the finest ring it holds.

    Those of `laid_by_lines` gave the first map, at the poses `lines`; on it all of `rows` were laid.
    """

    volume: Tensor
    rows: RowIndex
    laid_by_lines: RowIndex
    lines: LinePoses
    radius_px: float


def first_map_by_lines(
    particles: NoisySet,
    settings: FirstMapSettings,
    progress: Progress = silent,
    denoised: DenoisedBefore | None = None,
) -> LineMap:
    """A map of particles drawn with the seed: at most `settings.images` are laid by lines, the others on their map.

    `denoised` gives images of rows of `particles` that were denoised before, by `settings.denoiser`. Raises InputError
    for fewer than FEWEST_PARTICLES, UsageError for a denoiser that does not exist.
    """
    denoiser = get_denoiser(settings.denoiser)
    if settings.images < FEWEST_PARTICLES:
        raise UsageError(f"--images {settings.images} are too few for common lines: {FEWEST_PARTICLES} are the least")
    if len(particles) < FEWEST_PARTICLES:
        raise InputError(
            f"{len(particles)} particles are too few for common lines: {FEWEST_PARTICLES} are the least; "
            "find the first map by projection matching instead"
        )
    drawn = np.random.default_rng(settings.seed).permutation(len(particles))[: DENOISED_FOR_EACH * settings.images]
    laid = np.sort(drawn[: settings.images])
    rows = np.sort(drawn)
    whole = particles.subset(rows)
    found = denoise_some(whole, denoiser, progress) if denoised is None else denoised(rows)
    lines = poses_from_lines(
        found.images[torch.from_numpy(np.isin(rows, laid))],
        settings.lines(),
        _INDEPENDENT * signal_to_error(whole, found, progress),
        starts=settings.starts,
        symmetry=settings.symmetry,
        seed=settings.seed,
        progress=progress,
    )
    first = map_at(particles.subset(laid), lines.poses, settings, progress)
    made = map_laid_on(whole, first.volume, finest_ring(first, settings), settings, progress)
    return LineMap(made.volume, rows, laid, lines, finest_ring(made, settings))


def signal_to_error(particles: NoisySet, found: DenoisedImages, progress: Progress = silent) -> Tensor:
    """The signal over the error in denoised images of `particles` at Fourier radii 1, 2, … L // 2 − 1.

    Where the method expects no error in numbers, it is the signal that is missing from its images: the best estimate
    has as much less power as it errs.
    """
    power = _power(found.images)
    if found.error_by_shell is not None:
        error = found.error_by_shell.float()
    else:
        signal = signal_spectrum(particles, progress=progress).float()
        error = torch.where(signal > 0, signal - power, torch.inf)  # where no signal is known of, nothing is right
    shells = slice(1, particles.box // 2)
    ratio = power[shells] / error[shells].clamp_min(torch.finfo(torch.float32).tiny)
    return ratio.clamp(*_SNR_RANGE)


def _power(images: Tensor) -> Tensor:
    """Mean power of images (n, L, L) per coefficient of the orthonormal transform, by shell: (L // 2 + 1,)."""
    return shell_mean(centred_fft2(images).abs().square().mean(dim=0), 2) / images.shape[-1] ** 2
