"""Retrieval in the protocol `moments`: from views from everywhere, by a reference image or by a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.kam import Autocorrelations, autocorrelations, autocorrelations_of
from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.learned_retrieval import LearnedSettings, learned_model, retrieve_learned
from clarice.abinitio.likeness import Likeness
from clarice.abinitio.moment_fit import MomentFit
from clarice.abinitio.moment_model import MomentModel, MomentTargets
from clarice.abinitio.moments import Moments
from clarice.abinitio.orthogonal_retrieval import RetrievalSettings, Retrieved, retrieve
from clarice.abinitio.structure_draws import DrawSettings
from clarice.abinitio.structure_space import structure_space
from clarice.abinitio.trained_moment_network import moment_network
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import DEFAULT_METHOD, denoise_all, get_denoiser
from clarice.geometry.harmonics import BallBasis, slice_series, sphere_coefficients
from clarice.geometry.so3 import random_rotations
from clarice.physics.noisy_set import NoisySet
from clarice.physics.simulate import FILL

# Images beside the reference by which starts are told apart, and particles that are denoised together for them.
FURTHER_IMAGES, DENOISED_TOGETHER = 20, 256
# Random starts of a retrieval, each a second.
RETRIEVAL_STARTS = 24
# Structures that the network draws, and how often it draws anew at each level.
DRAWS, TRIES = 16, 8
# The highest level, the lowest, and how many, where images choose among draws.
_LEVELS = (1.5, 0.15, 20)


@dataclass(frozen=True)
class RetrievalInput:
    """First moment M1 (K,), correlations C_l, the series of the reference (orders + 1, K), and of further images
    (n, orders + 1, K).
    """

    first: Tensor
    correlations: Autocorrelations
    reference: Tensor
    further: Tensor

    @classmethod
    def exact(cls, volume: Tensor, model: MomentModel, seed: int) -> RetrievalInput:
        """Of a volume (L, L, L) itself: its own correlations, and slices in random directions."""
        degree = model.ball.degree
        spheres = sphere_coefficients(volume, model.rings.radii, degree)
        values = autocorrelations_of(spheres)
        rotations = random_rotations(1 + FURTHER_IMAGES, torch.Generator().manual_seed(seed))
        series = slice_series(rotations, degree, degree) @ spheres.to(torch.complex128)
        first = spheres[0] / (4 * math.pi) ** 0.5
        return cls(first, Autocorrelations(values, torch.zeros_like(values)), series[0], series[1:])

    @classmethod
    def measured(cls, moments: Moments, particles: NoisySet, model: MomentModel) -> RetrievalInput:
        """Of measured moments, and of particles that the default method denoises together."""
        box = particles.box
        some = particles.subset(np.arange(min(DENOISED_TOGETHER, len(particles))))
        images = torch.from_numpy(denoise_all(get_denoiser(DEFAULT_METHOD)(some), len(some), box))
        series = model.rings.series(images[: 1 + FURTHER_IMAGES])
        return cls(moments.first_moment(), autocorrelations(moments, FILL * box), series[0], series[1:])

    def with_moments(self, moments: Moments) -> RetrievalInput:
        """The same images with other moments."""
        found = autocorrelations(moments, FILL * moments.rings.box)
        return replace(self, first=moments.first_moment(), correlations=found)


def learnable(box: int, radii: tuple[float, ...]) -> bool:
    """Whether rings of `radii` are those of the learned space."""
    own = structure_space().radii(box, FILL * box)
    return len(own) == len(radii) and np.allclose(own, radii)


def learned(
    targets: MomentTargets, given: RetrievalInput, box: int, seed: int, progress: Progress = silent
) -> MomentFit:
    """The structure that the network and the moments agree on; without third moments, the one most like the images."""
    network, own = moment_network(), learned_model(box, FILL * box)
    model = MomentModel(own.ball, targets.rings, own.density_degree)
    known = KnownCorrelations.measured(given.first, given.correlations, network.spread)
    images, levels = None, LearnedSettings.levels
    if targets.moments.third is None:
        series = torch.cat([given.reference[None], given.further])
        images, levels = Likeness(series, model.ball.degree, model.rings.radii), tuple(np.geomspace(*_LEVELS).tolist())
    draws = DrawSettings(count=DRAWS, seed=seed)
    settings = LearnedSettings(draws=draws, tries=TRIES, levels=levels)
    return retrieve_learned(targets, model, network, [known], settings, images=images, progress=progress)


def retrieved(given: RetrievalInput, model: MomentModel, seed: int, progress: Progress = silent) -> Retrieved:
    """The structure that the correlations and images lead to, up to the last ring."""
    radii = model.rings.radii
    ball = BallBasis(model.ball.box, model.ball.radius_px, radii[-1])
    settings = RetrievalSettings(starts=RETRIEVAL_STARTS, seed=seed)
    return retrieve(
        given.correlations, ball, radii, settings, reference=given.reference, further=given.further, progress=progress
    )


def fit_of(drawn: MomentFit, targets: MomentTargets) -> dict[str, float | list[float]]:
    """The misfit, and by what draws were told apart: theirs, or, without third moments, their likeness to images."""
    misfit = round(drawn.misfit / targets.elements, 4)
    if targets.moments.third is None:
        return {"misfit": misfit, "likeness_by_start": [round(-each, 4) for each in drawn.by_start]}
    return {"misfit": misfit, "misfit_by_start": [round(each / targets.elements, 4) for each in drawn.by_start]}
