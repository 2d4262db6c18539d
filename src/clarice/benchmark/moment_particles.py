"""What the protocol `moments` takes moments of: structures themselves, and particles, raw and denoised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.denoised_moments import moments_of_images
from clarice.abinitio.moment_model import MomentModel, MomentSet, ViewNodes
from clarice.abinitio.moments import Moments, moments_of_particles
from clarice.benchmark.main_job import Request
from clarice.benchmark.structures import Subject, defocus_table
from clarice.core.particles import Poses
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import DEFAULT_METHOD, denoise_all, get_denoiser
from clarice.geometry.harmonics import sphere_coefficients
from clarice.physics.noisy_set import NoisySet, white_set
from clarice.physics.simulate import SimulatedSet, SimulationSettings, simulate
from clarice.physics.view_mixture import ViewMixture

# Components of views that are not from everywhere, and how narrow they are.
COMPONENTS, CONCENTRATION = 10, 6.0
# Particles that are simulated, and forgotten, at a time.
SHARD = 5000
# Degrees beyond the model's own that exact moments have, of the structure and of the density of views.
_FINER, _DENSITY_DEGREE = 4, 24


@dataclass(frozen=True)
class Case:
    """What moments are taken of: `particles` at an SNR with CTF in so many defocus groups, or the structure itself.

    Views come from `everywhere` alike, or from a few components; `third` moments are looked at, or are not.
    """

    particles: int | None
    snr: float | None = None
    defocus_groups: int = 50
    everywhere: bool = False
    third: bool = True

    def views(self, seed: int) -> ViewMixture:
        """The density of views."""
        return ViewMixture.everywhere() if self.everywhere else ViewMixture.drawn(COMPONENTS, CONCENTRATION, seed)


CASES = {
    "exact": Case(None),
    "10,000": Case(10_000, 0.05),
    "100,000": Case(100_000, 1 / 16, 100),
    "exact everywhere": Case(None, everywhere=True),
    "exact everywhere, two": Case(None, everywhere=True, third=False),
    "10,000 everywhere": Case(10_000, 0.05, everywhere=True),
}


def word_of(case: str) -> str:
    """How a case is called on the command line, and in the names of folders."""
    return case.replace(",", "").replace(" ", "-")


def exact_moments(volume: Tensor, model: MomentModel, views: ViewMixture) -> MomentSet:
    """Moments of a volume (L, L, L) seen with the density of `views`, by a quadrature finer than the model's."""
    rings, degree = model.rings, model.ball.degree + _FINER
    nodes = ViewNodes.of(degree, rings.orders, _DENSITY_DEGREE)
    here, opposite = (torch.from_numpy(views.density(side * nodes.directions)) * nodes.area for side in (1.0, -1.0))
    spheres = sphere_coefficients(volume, rings.radii, degree)
    return nodes.moments(spheres, here, opposite, rings, third=rings.third_rings > 0)


@dataclass(frozen=True)
class ParticleMoments:
    """Moments of particles, and of the same denoised; some of the particles, in the scale of both."""

    raw: Moments
    denoised: Moments
    shown: NoisySet


def measured_moments(
    common: Request,
    subject: Subject,
    seed: int,
    case: Case,
    model: MomentModel,
    progress: Progress = silent,
) -> ParticleMoments:
    """Moments of simulated particles, raw and denoised, by shards, each with defocus groups and noise of its own.

    Shards of one SNR differ a little in scale, which counts as part of their transfer function.
    """
    if case.particles is None or case.snr is None:
        raise ValueError("exact moments are not measured")
    raw: list[Moments] = []
    clear: list[Moments] = []
    scale = 0.0
    for shard in range(-(-case.particles // SHARD)):
        made = _shard(common, subject, seed, case, shard, min(SHARD, case.particles - shard * SHARD))
        noisy = white_set(made.particles)
        if not raw:
            scale, shown = made.scale, noisy
        gain = made.scale / scale
        raw.append(moments_of_particles(replace(noisy, whitening=noisy.whitening * gain), model.rings))
        clear.append(_moments_of_denoised(noisy, gain, model))
        progress("simulating and taking moments", sum(each.count for each in raw), case.particles)
    return ParticleMoments(reduce(add, raw), reduce(add, clear), shown)


def _moments_of_denoised(noisy: NoisySet, gain: float, model: MomentModel) -> Moments:
    """Of the images that the default method makes: without noise and CTF, and yet not without its bias."""
    images = torch.from_numpy(denoise_all(get_denoiser(DEFAULT_METHOD)(noisy), len(noisy), noisy.box)) / gain
    parts = torch.split(images, noisy.rows_per_chunk)
    return reduce(add, [moments_of_images(part, model.rings) for part in parts])


def _shard(common: Request, subject: Subject, seed: int, case: Case, shard: int, count: int) -> SimulatedSet:
    """The first `count` particles of a shard."""
    assert case.particles is not None
    assert case.snr is not None
    settings = SimulationSettings(
        count,
        common.settings.box,
        seed=1000 * seed + shard,
        snr=case.snr,
        max_shift_px=0.0,
        defocus_groups=max(1, case.defocus_groups // -(-case.particles // SHARD)),
        astigmatic=False,
        ctf_table=defocus_table(common.data),
    )
    rotations = case.views(seed).rotations(count, np.random.default_rng([seed, case.particles, shard]))
    return simulate(subject.atoms, settings, poses=Poses(rotations, np.zeros((count, 2))))
