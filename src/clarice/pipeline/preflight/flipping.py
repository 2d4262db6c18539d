"""What flipping phases by a CTF does to particles: of raw images it undoes the CTF's spreading, if it is their CTF.

Power then moves into the middle of the box. By any other CTF it moves outwards, as it does for images whose phases were
flipped before, at whatever scale of pixel or defocus. So a scale at which it moves inwards, and far more so than at the
scales about it, is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.particles import FloatArray, Optics, ParticleSet, RowIndex, spread_rows
from clarice.core.progress import Progress
from clarice.geometry.fourier import centred_fft2, centred_ifft2, radius_grid, resize_centred
from clarice.physics.ctf import ctf
from clarice.pipeline.preflight.pixels import z_scores

# Width of the weight that stands for the middle of the box, as a share of it.
_MIDDLE_SHARE = 0.13
# Scales that are tried, 1.6 % apart, from below a half to above two: pixels of a stack that was binned, or was not. And
# by how many images, in boxes of at most how many pixels.
_SCALES = np.exp(np.linspace(-np.log(2.2), np.log(2.2), 101))
_ROWS, _BOX = 512, 64
# By a CTF that changes its sign twice or three times as often, or as rarely, images gather a little as well.
_HARMONICS = np.sqrt([1 / 4, 1 / 3, 1 / 2, 2, 3, 4])
# A z-score so far against raw images of the stated scale has all scales tried.
_AGAINST = 2.0
# Scales about another differ from it by so much (of the logarithm), and it must stand so far above their median.
# Flipped particles reached 6.3 in twelve sets; raw ones 8.5 to 22, and less only below an SNR of 0.1.
_ABOUT, _LEAST_PROMINENCE = (0.04, 0.15), 7.5


@dataclass(frozen=True)
class CtfScale:
    """The scale at which a CTF is that of the images, with the z-score of the power that flipping by it moves inwards.

    `pixel_factor`: of the stated pixel size. Without spherical aberration, defocus over its square would do the same.
    """

    pixel_factor: float
    z: float


def spectra_of(particles: ParticleSet, rows: RowIndex) -> Tensor:
    """Centred transforms (n, L, L) of images less their mean."""
    images = torch.from_numpy(particles.read(rows))
    return centred_fft2(images - images.mean(dim=(1, 2), keepdim=True))


def middle_of(box: int) -> Tensor:
    """Weights (L, L) that tell power in the middle from power elsewhere; their mean is 0."""
    weight = torch.exp(-0.5 * (radius_grid(box) / (_MIDDLE_SHARE * box)) ** 2)
    return weight - weight.mean()


def power_moved_inwards(spectra: Tensor, transfer: Tensor, weight: Tensor) -> NDArray[np.float64]:
    """For each image, what flipping its phases adds to the power in the middle of the box, (n,)."""
    before = centred_ifft2(spectra).real ** 2
    after = centred_ifft2(spectra * torch.sign(transfer)).real ** 2
    moved = ((after - before) * weight).sum(dim=(1, 2), dtype=torch.float64)
    return np.asarray(moved.numpy())


def scale_of_the_ctf(
    particles: ParticleSet, optics: Optics, rows: RowIndex, whiten: Tensor, flip_z: float | None, progress: Progress
) -> CtfScale | None:
    """The scale at which flipping moves power inwards, other than about it, by 512 of `rows`; None where there is none.

    Looked for only where the score `flip_z` of the stated scale, or that of a harmonic, speaks against raw images.
    `whiten` (L, L) makes the noise in centred spectra white.
    """
    some = spread_rows(rows, _ROWS)
    box = min(particles.box, _BOX)
    spectra = resize_centred(spectra_of(particles, some) * whiten, box, 2)
    pixel_size = particles.pixel_size_angstrom * particles.box / box
    weight, of_some = middle_of(box), optics.subset(some)

    def score(factor: float) -> float:
        moved = power_moved_inwards(spectra, ctf(of_some, box, pixel_size * factor), weight)
        return float(z_scores(moved[:, None])[0])

    told = flip_z is not None and flip_z != 0 and flip_z > -_AGAINST  # 0 where nothing was flipped
    if told and max(score(factor) for factor in _HARMONICS) < score(1.0):
        return None
    scores = []
    for number, factor in enumerate(_SCALES, start=1):
        scores.append(score(factor))
        progress("trying other scales of the CTF", number, len(_SCALES))
    return _standing_out(np.array(scores))


def _standing_out(scores: FloatArray) -> CtfScale | None:
    apart = np.abs(np.log(_SCALES)[:, None] - np.log(_SCALES))
    about = (apart >= _ABOUT[0]) & (apart <= _ABOUT[1])
    prominence = scores - np.array([np.median(scores[near]) for near in about])
    prominence[scores <= 0] = -np.inf
    best = int(np.argmax(prominence))
    if prominence[best] < _LEAST_PROMINENCE or abs(np.log(_SCALES[best])) < _ABOUT[0]:
        return None
    return CtfScale(float(_SCALES[best]), float(scores[best]))
