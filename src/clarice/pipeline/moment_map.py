"""A first map by moments: a structure and its views' density fitted to moments of particles, which are laid on it.

Moments know nothing of single particles but that they are centred. So each is moved by the centre of mass of its
denoised image; the moments are of the raw ones, of which the share of the noise is known. The structure is fitted from
random starts, or, by the method `learned`, from what a network draws that knows molecules (`learned_retrieval`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarice.abinitio.kam import autocorrelations
from clarice.abinitio.known_correlations import KnownCorrelations
from clarice.abinitio.learned_retrieval import LearnedSettings, learned_model, retrieve_learned
from clarice.abinitio.line_shifts import mass_centres
from clarice.abinitio.moment_fit import FitSettings, MomentFit, fit_moments, model_for
from clarice.abinitio.moment_model import MomentModel, MomentTargets
from clarice.abinitio.moments import Moments, moments_of_particles
from clarice.abinitio.structure_draws import DrawSettings
from clarice.abinitio.structure_space import structure_space
from clarice.abinitio.trained_moment_network import moment_network
from clarice.core.errors import InputError, UsageError
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.registry import get_denoiser
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.denoised_files import DenoisedBefore, denoise_some
from clarice.pipeline.first_map_settings import DENOISED_FOR_EACH, FEWEST_HELD_OUT, FirstMapSettings, Method
from clarice.pipeline.laid_map import finest_ring, map_laid_on

# Third moments of fewer tell one structure from another no more.
FEWEST_PARTICLES = 200
# Particles kept out of moments and map to judge it by, at most: so many, and this share of all.
MOST_HELD_OUT, HELD_OUT_SHARE = 400, 0.2
# Waves across the particle in the finest ring: finer ones have too many coefficients for a fit of minutes.
FINEST_WAVES = 5.85
# Of the density of views.
_DENSITY_DEGREE = 8
# Structures that the network draws for each of the starts that a fit would make, with and without correlations.
_DRAWS_A_START = 2
# What an element's error is never taken for less than, as a share of what it may be: centres and CTFs err, too.
_FLOOR = 0.02


@dataclass(frozen=True)
class MomentMap:
    """The map (L, L, L) of the particles `rows`, and the finest ring it holds.

    Moments were taken of the particles `counted`, `rows` among them; `elements` numbers were fitted.
    """

    volume: Tensor
    rows: RowIndex
    counted: RowIndex
    radius_px: float
    elements: int
    fit: MomentFit

    @property
    def misfit(self) -> float:
        """Squared error of the fit over what was expected, an element."""
        return self.fit.misfit / self.elements


def first_map_by_moments(
    particles: NoisySet,
    settings: FirstMapSettings,
    progress: Progress = silent,
    denoised: DenoisedBefore | None = None,
) -> MomentMap:
    """A map of particles drawn with the seed, laid on a structure that has the moments of these, or of more of them.

    `denoised` gives images of rows of `particles` that were denoised before, by `settings.denoiser`: then all are
    centred, and counted in, but for those that the map is to be judged by. Raises InputError for fewer than
    FEWEST_PARTICLES, UsageError where `settings.images` leaves fewer, for a denoiser that does not exist and for a
    point group, of which the fit knows nothing.
    """
    settings.insist_on_sense()
    get_denoiser(settings.denoiser)
    model = _model(particles.box, settings)  # what cannot be is said before any work is done
    if settings.method is Method.LEARNED:
        moment_network()
    drawn = np.random.default_rng(settings.seed).permutation(len(particles))
    drawn, others = np.split(drawn, [min(len(drawn), DENOISED_FOR_EACH * settings.images)])
    rows = np.sort(drawn)
    counted = rows if denoised is None else np.sort(np.concatenate([rows, others[_held_out(len(rows), len(others)) :]]))
    _insist_on_many(len(counted), len(particles), settings)
    whole = particles.subset(counted)
    centres = _centres(whole, counted, settings, denoised, progress)
    moments = moments_of_particles(whole, model.rings, progress, centres)
    targets = MomentTargets.of(moments, _FLOOR)
    if settings.method is Method.LEARNED:
        fit = _learned(moments, targets, model, settings, progress)
    else:
        fit = fit_moments(targets, model, FitSettings(starts=settings.starts, seed=settings.seed), progress)
    made = map_laid_on(particles.subset(rows), fit.volume.float(), model.rings.radii[-1], settings, progress)
    return MomentMap(made.volume, rows, counted, finest_ring(made, settings), targets.elements, fit)


def _model(box: int, settings: FirstMapSettings) -> MomentModel:
    """The model of moments whose structure is sought. Raises UsageError where a box has no room for its rings."""
    most = box // 2 - 2
    if settings.method is not Method.LEARNED:
        finest = min(round(FINEST_WAVES * box / settings.diameter_px), most)
        return model_for(box, settings.diameter_px, finest, _DENSITY_DEGREE)
    if structure_space().radii(box, settings.diameter_px)[-1] > most:
        raise UsageError(
            f"a particle of {settings.diameter_px:.0f} px in a box of {box} px is too small for --method learned: give "
            "a smaller box around it, or a larger --working-box or --diameter, or find the first map another way"
        )
    return learned_model(box, settings.diameter_px, _DENSITY_DEGREE)


def _learned(
    moments: Moments, targets: MomentTargets, model: MomentModel, settings: FirstMapSettings, progress: Progress
) -> MomentFit:
    """What the network draws and the moments agree on, whether views come from everywhere or not.

    Draws are made with the correlations that the moments are if they do, and without; the best of each are fitted with
    a density of views, and the moments then tell which is right.
    """
    spread = moment_network().spread
    found = autocorrelations(moments, settings.diameter_px)
    known = [
        KnownCorrelations.measured(moments.first_moment(), found, spread),
        KnownCorrelations.unknown(spread),
    ]
    how = LearnedSettings(DrawSettings(count=_DRAWS_A_START * settings.starts, seed=settings.seed))
    return retrieve_learned(targets, model, moment_network(), known, how, progress=progress)


def _held_out(laid: int, others: int) -> int:
    """How many of the particles that are not `laid` are kept out of the moments as well."""
    most = min(others, MOST_HELD_OUT, int(HELD_OUT_SHARE * (laid + others)))
    return most if most >= FEWEST_HELD_OUT else 0


def _insist_on_many(counted: int, particles: int, settings: FirstMapSettings) -> None:
    """Raises InputError for too few particles, UsageError where `settings.images` leaves too few of them."""
    if particles < FEWEST_PARTICLES:
        raise InputError(
            f"{particles} particles are too few for a map by moments: {FEWEST_PARTICLES} are the least; "
            "find the first map another way"
        )
    if counted < FEWEST_PARTICLES:
        raise UsageError(
            f"--images {settings.images} leaves {counted} particles to take moments of: "
            f"pass {-(-FEWEST_PARTICLES // DENOISED_FOR_EACH)} or more"
        )


def _centres(
    particles: NoisySet,
    rows: RowIndex,
    settings: FirstMapSettings,
    denoised: DenoisedBefore | None,
    progress: Progress,
) -> Tensor:
    """Centre of mass (n, 2), (x, y) pixels, of each particle's denoised image."""

    def of(images: Tensor) -> Tensor:
        return mass_centres(images, settings.diameter_px, settings.max_shift_px)

    if denoised is None:
        return of(denoise_some(particles, get_denoiser(settings.denoiser), progress).images)
    step = particles.rows_per_chunk
    return torch.cat([of(denoised(rows[start : start + step]).images) for start in range(0, len(rows), step)])
