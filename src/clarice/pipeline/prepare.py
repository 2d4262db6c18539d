"""Particles made ready: protein bright, background mean 0, noise white with variance 1, in a working box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clarice.core.batches import in_batches
from clarice.core.errors import InputError, UsageError
from clarice.core.particles import ArraySource, ImageSource, ParticleSet, Poses, RowIndex, spread_rows
from clarice.core.progress import Progress, silent
from clarice.geometry.fourier import fourier_resize, radius_grid
from clarice.io.mrc import MrcSource, MrcStackWriter
from clarice.physics.ctf import ctf_at, rfft_frequency_grid
from clarice.physics.noise import radial_noise_spectrum, radial_to_rfft_grid
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.preflight.verdict import CtfState
from clarice.pipeline.preparation import GroupNoise, Preparation

# Boxes above this are reduced to it: the first map of a particle does not need finer pixels.
LARGEST_DEFAULT_BOX = 64
SMALLEST_BOX = 16
# Background begins beyond this share of the half box: room for a centred particle, and enough pixels left.
BACKGROUND_RADIUS = 0.75
# Noise statistics of a group need no more images than this, and no fewer to stand apart from the pool.
NOISE_SAMPLE, SMALLEST_GROUP = 2048, 200
# Background σ that spreads more than this, beyond its own error, says that grey scales differ by image.
GREY_SCALE_SPREAD = 0.1
# Multiplication by the CTF is undone as H / (H² + this): zeros of H are not divided by.
UNDOING_FLOOR = 1e-3
CHUNK_PIXELS = 2**23


@dataclass(frozen=True)
class Prepared:
    """A prepared particle set and the record of how it was made."""

    particles: ParticleSet
    preparation: Preparation

    @property
    def noisy_set(self) -> NoisySet:
        """What a denoiser is given."""
        return self.preparation.noisy_set(self.particles)


def default_working_box(box: int) -> int:
    """The box itself up to 64 px, and 64 px above."""
    return min(box, LARGEST_DEFAULT_BOX)


def checked_box(particles: ParticleSet, working_box: int | None) -> int:
    """The box to work in: the one asked for, else the default. Raises UsageError or InputError for an unfit one."""
    box = particles.box
    if box < SMALLEST_BOX:
        raise InputError(f"the box of {box} px is too small to work in: at least {SMALLEST_BOX} px are needed")
    chosen = default_working_box(box) if working_box is None else working_box
    if not SMALLEST_BOX <= chosen <= box:
        raise UsageError(f"--working-box {chosen} must lie between {SMALLEST_BOX} and the stack's box of {box} px")
    return chosen


@dataclass(frozen=True)
class _Background:
    """Where the background is in the input's box."""

    mask: Tensor

    @classmethod
    def beyond(cls, radius_px: float, box: int) -> _Background:
        return cls((radius_grid(box) > radius_px).float())

    def mean_and_sigma(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Both (k,), of the background of each image (k, L, L)."""
        pixels = self.mask.sum()
        mean = (images * self.mask).sum(dim=(1, 2)) / pixels
        centred = (images - mean[:, None, None]) * self.mask
        return mean, (centred.square().sum(dim=(1, 2)) / (pixels - 1)).sqrt()


def _read(particles: ParticleSet, rows: RowIndex) -> Tensor:
    images = torch.from_numpy(np.ascontiguousarray(particles.read(rows), dtype=np.float32))
    finite = torch.isfinite(images).all(dim=2).all(dim=1)
    if not bool(finite.all()):
        row = int(rows[int(torch.nonzero(~finite)[0])])
        raise InputError(f"particle {row + 1} has pixels that are no numbers: remove its row and start again")
    return images


def _cropped(images: Tensor, particles: ParticleSet, rows: RowIndex, preparation: Preparation) -> Tensor:
    """Images in the working box, with multiplication by the CTF undone where the input has it."""
    box = preparation.working_box
    images = fourier_resize(images, box, 2)
    if preparation.ctf_state != "multiplied" or particles.optics is None:
        return images
    fy, fx = rfft_frequency_grid(box)
    pixel = preparation.working_pixel_size_angstrom
    transfer = ctf_at(particles.optics.subset(rows), fx / pixel, fy / pixel)
    undone = torch.fft.rfft2(images) * transfer / (transfer.square() + UNDOING_FLOOR)
    result: Tensor = torch.fft.irfft2(undone, s=(box, box))
    return result


def _scaled(images: Tensor, background: _Background, sigma: Tensor | None) -> Tensor:
    """(image − background mean) / σ with σ (k,), or each image's own where None."""
    mean, own = background.mean_and_sigma(images)
    divisor = own if sigma is None else sigma
    return (images - mean[:, None, None]) / divisor.clamp(min=1e-20)[:, None, None]


def _chunk_rows(particles: ParticleSet) -> int:
    return max(8, CHUNK_PIXELS // particles.box**2)


def _group_rows(particles: ParticleSet) -> list[tuple[int | None, RowIndex]]:
    """The pool (every particle) first, then each optics group that is large enough and not the only one."""
    groups: list[tuple[int | None, RowIndex]] = [(None, np.arange(len(particles)))]
    if particles.optics_group is not None:
        labels, counts = np.unique(particles.optics_group, return_counts=True)
        large = [int(label) for label, count in zip(labels, counts, strict=True) if count >= SMALLEST_GROUP]
        if len(labels) > 1:
            groups += [(label, np.flatnonzero(particles.optics_group == label)) for label in large]
    return groups


def _background_sigmas(particles: ParticleSet, rows: RowIndex, background: _Background) -> Tensor:
    parts = in_batches(
        len(rows),
        _chunk_rows(particles),
        lambda start, stop: background.mean_and_sigma(_read(particles, rows[start:stop]))[1],
    )
    return torch.cat(list(parts))


def _spectrum(
    particles: ParticleSet,
    rows: RowIndex,
    sigma: float,
    preparation: Preparation,
    background: _Background,
) -> tuple[float, ...]:
    """Per-pixel noise variance by shell of the working box, of scaled and cropped images."""
    radius = preparation.background_radius_px * preparation.working_box / preparation.input_box

    def work(start: int, stop: int) -> Tensor:
        part = rows[start:stop]
        scale = None if preparation.per_image_scale else torch.full((len(part),), sigma)
        scaled = _scaled(_read(particles, part), background, scale)
        return radial_noise_spectrum(_cropped(scaled, particles, part, preparation), radius) * len(part)

    total = sum(in_batches(len(rows), _chunk_rows(particles), work), torch.zeros(()))
    return tuple(float(value) for value in total / len(rows))


def plan(
    particles: ParticleSet,
    *,
    sign: int,
    ctf_state: CtfState = "raw",
    working_box: int | None = None,
    background_radius_px: float | None = None,
    progress: Progress = silent,
) -> Preparation:
    """Measures the background of a sample of the particles, and says how they are to be prepared.

    `sign` is +1 for protein-bright input and −1 for protein-dark; `background_radius_px` is the disk, in the
    input's pixels, beyond which an image is taken as background (default: three quarters of the half box).
    Raises InputError for flat backgrounds and pixels that are no numbers, UsageError for an unfit box or
    radius.
    """
    if sign not in (-1, 1):
        raise UsageError(f"the sign {sign} must be 1 (protein bright) or -1 (protein dark)")
    if not len(particles):
        raise InputError("there are no particles to prepare: choose others")
    box, working = particles.box, checked_box(particles, working_box)
    radius = BACKGROUND_RADIUS * box / 2 if background_radius_px is None else background_radius_px
    if not 0 < radius < box / 2:
        raise UsageError(f"the background radius {radius:g} px must lie between 0 and half the box of {box} px")
    background = _Background.beyond(radius, box)
    groups = _group_rows(particles)
    sigmas = [_background_sigmas(particles, spread_rows(rows, NOISE_SAMPLE), background) for _, rows in groups]
    medians = [float(values.median()) for values in sigmas]
    if min(medians) <= 0:
        raise InputError("the particles' background is flat, so their noise cannot be measured: extract them unmasked")
    spread = [1.4826 * float((values - values.median()).abs().median() / values.median()) for values in sigmas]
    preparation = Preparation(
        sign=sign,
        ctf_state=ctf_state if particles.optics is not None else "none",
        input_box=box,
        input_pixel_size_angstrom=particles.pixel_size_angstrom,
        working_box=working,
        working_pixel_size_angstrom=particles.pixel_size_angstrom * box / working,
        background_radius_px=radius,
        per_image_scale=max(spread[1:] or spread) > GREY_SCALE_SPREAD,
        groups=(),
    )
    noise = []
    for done, ((label, rows), sigma) in enumerate(zip(groups, medians, strict=True)):
        progress("measuring noise", done, len(groups))
        spectrum = _spectrum(particles, spread_rows(rows, NOISE_SAMPLE), sigma, preparation, background)
        noise.append(GroupNoise(label, sigma, spectrum))
    progress("measuring noise", len(groups), len(groups))
    return replace(preparation, groups=tuple(noise))


def prepared_images(
    particles: ParticleSet, preparation: Preparation, *, progress: Progress = silent
) -> Iterator[Tensor]:
    """Prepared images (k, w, w) float32, chunk by chunk in row order."""
    background = _Background.beyond(preparation.background_radius_px, preparation.input_box)
    group = preparation.noise_group(particles)
    sigma = torch.tensor([item.sigma for item in preparation.groups])
    whitening = torch.from_numpy(preparation.whitening()).float()
    box = preparation.working_box

    def work(start: int, stop: int) -> tuple[int, Tensor]:
        rows = np.arange(start, stop)
        part = torch.from_numpy(group[rows])
        scale = None if preparation.per_image_scale else sigma[part]
        images = _scaled(_read(particles, rows), background, scale)
        images = _cropped(preparation.sign * images, particles, rows, preparation)
        transfer = radial_to_rfft_grid(whitening[part], box)
        return stop, torch.fft.irfft2(torch.fft.rfft2(images) * transfer, s=(box, box))

    for done, images in in_batches(len(particles), _chunk_rows(particles), work):
        progress("preparing", done, len(particles))
        yield images


def with_prepared_images(particles: ParticleSet, preparation: Preparation, images: ImageSource) -> ParticleSet:
    """The particle set with the prepared images; pixel size and shifts are those of the working box."""
    poses = particles.poses
    if poses is not None:
        scale = preparation.working_box / preparation.input_box
        poses = Poses(poses.rotations, poses.shifts_px * scale)
    return replace(particles, images=images, pixel_size_angstrom=preparation.working_pixel_size_angstrom, poses=poses)


def prepare(
    particles: ParticleSet,
    *,
    sign: int,
    ctf_state: CtfState = "raw",
    working_box: int | None = None,
    background_radius_px: float | None = None,
    images_path: Path | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Protein-bright particles with background mean 0 and white noise of variance 1, in a working box.

    `working_box` is the input's box up to 64 px and 64 px above, unless given. The prepared images go to the
    MRC stack `images_path` and are read from there; without it they stay in memory. See `plan` for the rest.
    """
    preparation = plan(
        particles,
        sign=sign,
        ctf_state=ctf_state,
        working_box=working_box,
        background_radius_px=background_radius_px,
        progress=progress,
    )
    images = prepared_images(particles, preparation, progress=progress)
    box = preparation.working_box
    source: ImageSource
    if images_path is None:
        held = np.empty((len(particles), box, box), dtype=np.float32)
        start = 0
        for part in images:
            held[start : start + len(part)] = part.numpy()
            start += len(part)
        source = ArraySource(held)
    else:
        with MrcStackWriter(images_path, box, preparation.working_pixel_size_angstrom) as writer:
            for part in images:
                writer.append(part.numpy())
        source = MrcSource.open(images_path)
    return Prepared(with_prepared_images(particles, preparation, source), preparation)
