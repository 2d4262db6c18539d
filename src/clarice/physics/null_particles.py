"""Stacks in which nothing is to be seen: what a method makes of them it has made by itself.

Both keep number, box, optics and noise level of the particles that they stand beside.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from clarice.core.particles import ArraySource
from clarice.core.seeds import generator_of
from clarice.physics.noisy_set import NoisySet

# Streams of random numbers.
_NOISE, _PHASES = range(2)


def pure_noise(noisy: NoisySet, seed: int) -> NoisySet:
    """White noise of variance 1 in place of each particle: all of it that is not signal, by the model of a NoisySet."""
    return _with_images(noisy, _noise(noisy, generator_of(seed, _NOISE)))


def phase_randomised(noisy: NoisySet, seed: int) -> NoisySet:
    """Each particle with the amplitudes of its own Fourier coefficients and random phases.

    Its power spectrum stays, signal included; what it showed is gone, and nothing is left that particles share.
    """
    spectra = torch.fft.rfft2(noisy.images(np.arange(len(noisy))))
    phases = torch.fft.rfft2(_noise(noisy, generator_of(seed, _PHASES)))  # of a real image, so Hermitian
    box = noisy.box
    images = torch.fft.irfft2(spectra.abs() * phases / phases.abs().clamp_min(1e-12), s=(box, box))
    return _with_images(noisy, images)


def _noise(noisy: NoisySet, generator: torch.Generator) -> torch.Tensor:
    return torch.randn((len(noisy), noisy.box, noisy.box), generator=generator)


def _with_images(noisy: NoisySet, images: torch.Tensor) -> NoisySet:
    return replace(noisy, particles=replace(noisy.particles, images=ArraySource(images.numpy())))
