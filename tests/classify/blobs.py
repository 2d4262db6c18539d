"""Particles of a few flat shapes made of Gaussian blobs, turned, shifted and CTF-filtered exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.core.particles import ArraySource, Optics, ParticleSet
from clarice.physics.ctf import apply_ctf
from clarice.physics.noisy_set import NoisySet, white_set

PIXEL_ANGSTROM = 4.0


@dataclass(frozen=True)
class Blobs:
    """The set and its truth: `shape` (n,), `angle_rad` (n,), centring `shift_px` (n, 2), clean shapes (k, L, L)."""

    observed: NoisySet
    shape: NDArray[np.int64]
    angle_rad: NDArray[np.float64]
    shift_px: NDArray[np.float64]
    templates: NDArray[np.float32]


def draw(points: NDArray[np.float64], box: int, width_px: float = 1.6) -> NDArray[np.float64]:
    """Sum of Gaussians at `points` (n, m, 2), (x, y) from index L // 2: (n, L, L)."""
    axis = np.arange(box) - box // 2
    x = np.exp(-((axis - points[..., :1]) ** 2) / (2 * width_px**2))  # (n, m, L)
    y = np.exp(-((axis - points[..., 1:]) ** 2) / (2 * width_px**2))
    return np.einsum("nmy,nmx->nyx", y, x)


def shapes(count: int, box: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`count` shapes of six blobs each, centre of mass at 0, within 0.3 of the box: (count, 6, 2)."""
    radius = 0.28 * box * np.sqrt(rng.uniform(0.05, 1, (count, 6)))
    angle = rng.uniform(0, 2 * np.pi, (count, 6))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return points - points.mean(axis=1, keepdims=True)


def some_optics(count: int, rng: np.random.Generator) -> Optics:
    one = np.ones(count)
    defocus = rng.uniform(9000, 25000, count)
    return Optics(300 * one, 2.7 * one, 0.1 * one, defocus + 300, defocus, 40 * one, 0 * one, 0 * one)


def make_blobs(
    box: int = 32, count: int = 240, n_shapes: int = 4, snr: float = 0.3, seed: int = 0, ctf: bool = True
) -> Blobs:
    rng = np.random.default_rng(seed)
    templates = shapes(n_shapes, box, rng)
    shape = rng.integers(0, n_shapes, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    shift = rng.uniform(-2.5, 2.5, (count, 2))
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    points = np.einsum("nij,nmj->nmi", turn, templates[shape]) - shift[:, None]
    optics = some_optics(count, rng)
    images = torch.from_numpy(draw(points, box)).float()
    if ctf:
        images = apply_ctf(images, optics, PIXEL_ANGSTROM)
    scale = float((snr / images.square().mean()).sqrt())
    noise = torch.from_numpy(rng.standard_normal(images.shape)).float()
    particles = ParticleSet(
        ArraySource((scale * images + noise).numpy()), PIXEL_ANGSTROM, optics=optics if ctf else None
    )
    clean = (scale * draw(templates, box)).astype(np.float32)
    return Blobs(white_set(particles), shape, angle, shift, clean)
