"""One frame of a micrograph and the mean of all others: what they have in common is no noise.

The mean of all frames less the frame's own share has noise that is independent of the frame's, so whatever a denoiser
makes of the frame can be held against it, though nobody knows the clean image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from clarice.core.particles import FloatArray, ParticleSet
from clarice.metrics.shells import as_array, correlation_of, half_shells
from clarice.physics.noisy_set import white_set

# Frequencies of a micrograph, in cycles per pixel, at which nothing but noise is left.
_NOISE_ALONE = (0.42, 0.5)
_AT_ONCE = 256


def share_of_frame(average: NDArray[np.float32], frame: NDArray[np.float32]) -> float:
    """The factor with which `frame` stands in the mean of all, both (H, W): least squares where only noise is left."""
    whole, part = (np.fft.rfft2(image - image.mean(dtype=np.float64)) for image in (average, frame))
    height, width = frame.shape
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    noise = (radius > _NOISE_ALONE[0]) & (radius < _NOISE_ALONE[1])
    return float((whole * part.conj()).real[noise].sum() / (np.abs(part[noise]) ** 2).sum())


def mean_of_others(average: NDArray[np.float32], frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of all frames less the share of one, (H, W)."""
    rest: NDArray[np.float32] = (average - share_of_frame(average, frame) * frame).astype(np.float32)
    return rest


@dataclass(frozen=True)
class Agreement:
    """Sums over the images of each micrograph, by Fourier shell, (m, L // 2 + 1): Re(a b̄), |a|² and |b|² of images a
    held against targets b.
    """

    cross: FloatArray
    images: FloatArray
    targets: FloatArray

    def without(self, micrograph: int) -> Agreement:
        """That of all micrographs but one."""
        return Agreement(*(np.delete(sums, micrograph, axis=0) for sums in (self.cross, self.images, self.targets)))

    @property
    def correlation(self) -> FloatArray:
        """Of all images with their targets, by shell."""
        return correlation_of(self.cross.sum(axis=0), self.images.sum(axis=0), self.targets.sum(axis=0))

    @property
    def power(self) -> FloatArray:
        """Of all targets, by shell."""
        total: FloatArray = self.targets.sum(axis=0)
        return total


def agreement(
    images: Iterator[NDArray[np.complex128]], targets: ParticleSet, micrographs: NDArray[np.str_]
) -> Agreement:
    """Of real transforms (k, L, L // 2 + 1), handed out in row order, with `targets` (n) of `micrographs` (n,)."""
    box = targets.box
    shells, weight = half_shells(box, 2)
    inside = shells <= box // 2
    names, of_name = np.unique(micrographs, return_inverse=True)
    sums = np.zeros((3, len(names), box // 2 + 1))
    start = 0
    for spectra in images:
        rows = np.arange(start, start + len(spectra))
        wanted = np.fft.rfft2(targets.read(rows).astype(np.float64))
        for row, one, target in zip(rows, spectra, wanted, strict=True):
            terms = ((one * target.conj()).real, np.abs(one) ** 2, np.abs(target) ** 2)
            for number, term in enumerate(terms):
                added = np.bincount(shells[inside], (weight * term)[inside], box // 2 + 1)
                sums[number, of_name[row]] += added
        start += len(spectra)
    return Agreement(*sums)


def raw_spectra(particles: ParticleSet) -> Iterator[NDArray[np.complex128]]:
    """Transforms of images as they are."""
    for _, images in particles.chunks(_AT_ONCE):
        yield np.fft.rfft2(images.astype(np.float64))


def filtered_spectra(denoised: ParticleSet, optics_of: ParticleSet) -> Iterator[NDArray[np.complex128]]:
    """Transforms of images without CTF, times the CTF that the detector's images have."""
    noisy = white_set(optics_of)
    for rows, images in denoised.chunks(_AT_ONCE):
        yield np.fft.rfft2(images.astype(np.float64)) * as_array(noisy.ctf_of(rows))


def ceiling(correlation: FloatArray, frames: int) -> FloatArray:
    """What the clean image would correlate with the mean of the others, by shell, from what one frame does.

    With x = signal over noise of a frame, its correlation c with the mean of the others has
    c² = x / (1 + x) · (n − 1) x / (1 + (n − 1) x), where all n frames are equally good. The second factor is the square
    of what is asked for. 0 where a frame correlates with nothing.
    """

    def squares(x: float) -> tuple[float, float]:
        return x / (1 + x), (frames - 1) * x / (1 + (frames - 1) * x)

    def of(c: float) -> float:
        if not 0 < c < 1:
            return float(c >= 1)
        x = brentq(lambda x: np.prod(squares(x)) - c**2, 0.0, 1.0 / (1 - c))
        return float(np.sqrt(squares(float(x))[1]))

    return np.array([of(float(c)) for c in correlation])
