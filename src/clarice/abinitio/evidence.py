"""What speaks against a map: likelihoods of its particles, and signs that half maps agree on no structure.

A first map is held against noise, and against its particles with random phases. What speaks against a refined map is
told in words, calibrated at a box of 64 and a diameter of 0.65 of it, without symmetry: on simulated sets of 2,000
particles at SNR 0.1 (right runs have a median confidence above 0.86, agree to Nyquist and gain more than 100 in
log-likelihood a particle) and on sets of 600 images of pure noise (confidence below 0.03, agreement up to 9 shells,
gains of at most 1), refined from their own first map or from a molecule's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from clarice.abinitio.grey_scale import compared_radius
from clarice.abinitio.pose_assignment import Laid, lay_on
from clarice.abinitio.reconstruct import agreed_radius
from clarice.abinitio.refinement import Refined, Settings, shared_radius
from clarice.core.particles import FloatArray
from clarice.physics.noisy_set import NoisySet
from clarice.physics.null_particles import phase_randomised

# Halves that start from one map agree a little beyond what it held, whatever they are made of: this much, and a shell.
BEYOND_SHARED, SHELLS_BEYOND_SHARED = 1.3, 1
# How much further the whole map may agree than the part that orientations determine.
BEYOND_ORIENTATIONS = 1.5
# Gain in log-likelihood a particle, against pure noise, below which a map explains nothing. The particles are those it
# was made of, so that noise gains a little too.
LEAST_OWN_GAIN = 2.0
UNSURE_CONFIDENCE = 0.25
# Particles that tell whether a starting map shows them at all.
SAMPLE = 300
# A map that shows particles loses most of what they gain by it when their phases are made random. Standard errors that
# the loss must stand out by, and its least share of the gain.
PHASE_ERRORS, LEAST_PHASE_LOSS = 4.0, 0.5


@dataclass(frozen=True)
class RandomPhases:
    """Log-likelihood ratio a particle against pure noise on a map, and of the same with random phases.

    `error`: the standard error of the difference. What is gained with random phases as well lies in the particles'
    spectra: brightness, size and a few strong coefficients that some view of almost any map meets.
    """

    gain: float
    randomised: float
    error: float

    @property
    def stands_out(self) -> bool:
        """Whether the map shows more of the particles than of their spectra."""
        loss = self.gain - self.randomised
        return self.gain > 0 and loss > PHASE_ERRORS * self.error and loss > LEAST_PHASE_LOSS * self.gain

    @classmethod
    def of(cls, gains: FloatArray, randomised: FloatArray) -> RandomPhases:
        """Of gains (n,) of each particle as it is, and with random phases."""
        lost = gains - randomised
        error = float(lost.std(ddof=1) / np.sqrt(len(lost)))
        return cls(float(gains.mean()), float(randomised.mean()), error)


def random_phases(particles: NoisySet, volume: Tensor, settings: Settings, laid: Laid) -> RandomPhases:
    """What becomes of the gains of `laid`, the `laid_sample` of `particles` on a map (L, L, L), with random phases."""
    some = particles.subset(particles.sample_rows(SAMPLE))
    randomised = laid_sample(phase_randomised(some, settings.seed), volume, settings)
    return RandomPhases.of(laid.log_evidence, randomised.log_evidence)


def laid_sample(particles: NoisySet, start: Tensor, settings: Settings) -> Laid:
    """Up to 300 particles, spread over the set, on a starting map (L, L, L), which counts to 6.5 cycles per diameter.

    Refinement itself begins with its coarse part, in which most maps of the right size are much alike, and finer detail
    would be missed by the coarse views that are searched.
    """
    some = particles.subset(particles.sample_rows(SAMPLE))
    radius = compared_radius(particles.box, settings.diameter_px)
    return lay_on(some, start, replace(settings, start_radius_px=radius))


def gain_by_start(particles: NoisySet, start: Tensor, settings: Settings) -> float:
    """Mean log-likelihood ratio of a sample of particles under a starting map (L, L, L), against pure noise."""
    return float(laid_sample(particles, start, settings).log_evidence.mean())


def least_agreement_px(box: int, settings: Settings) -> float:
    """Fourier pixels to which half maps of anything at all agree, because both started from one map."""
    return min(BEYOND_SHARED * shared_radius(box, settings) + SHELLS_BEYOND_SHARED, box / 2 - 1)


def doubts(refined: Refined, settings: Settings, pixel_size_angstrom: float) -> list[str]:
    """One sentence for each reason not to trust the map; none where all is well."""
    found = []
    last = refined.history[-1]
    if last.mean_log_evidence < LEAST_OWN_GAIN:
        found.append(
            "particles are hardly likelier under the refined map than under pure noise "
            f"(by {last.mean_log_evidence:.1f} in log-likelihood each): the map is not to be "
            "trusted, whatever its half maps agree on"
        )
    found += _doubtful_agreement(refined, settings, pixel_size_angstrom)
    median = float(np.median(refined.confidence))
    if median < UNSURE_CONFIDENCE:
        found.append(
            f"half of the particles have a pose confidence below {median:.2f}: their views are not determined to the "
            f"{last.spacing_deg:.0f}° between those looked at, and a map averaged over wrong views agrees between half "
            "sets all the same; trust it only as far as its projections resemble the class averages"
        )
    return found


def _doubtful_agreement(refined: Refined, settings: Settings, pixel_size_angstrom: float) -> list[str]:
    """What the half maps' agreement leaves open."""
    box = refined.volume.shape[-1]
    field_angstrom, least = box * pixel_size_angstrom, least_agreement_px(box, settings)
    whole, turned = (
        max(1, agreed_radius(fsc, box, settings.diameter_px)) for fsc in (refined.fsc, refined.orientation_fsc)
    )
    start = f"the {field_angstrom / shared_radius(box, settings):.1f} Å of the map that both started from"
    looked = max(row.radius_px for row in refined.history)
    if looked < least:
        return [
            f"the half maps were compared to {field_angstrom / looked:.1f} Å only, hardly beyond {start}: their "
            "agreement is no evidence yet; start from a coarser map or give more iterations"
        ]
    if turned < least:
        return [
            f"in what orientations determine, the half maps agree to {field_angstrom / turned:.1f} Å, against {start}: "
            "pure noise reaches that too, so it is no evidence of a structure"
        ]
    if whole > BEYOND_ORIENTATIONS * turned:
        return [
            f"the half maps agree to {field_angstrom / whole:.1f} Å, but without their spherical means only to "
            f"{field_angstrom / turned:.1f} Å: beyond that the map may be an average over wrong views"
        ]
    return []
