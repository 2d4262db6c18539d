"""What speaks against a refined map, in words: signs that its half maps agree on something other than a structure.

Calibrated at a box of 64 on simulated sets of 2,000 particles at SNR 0.1 (right runs have a median confidence above
0.86, agree to Nyquist and gain more than 100 in log-likelihood a particle) and on sets of 600 images of pure noise
(confidence below 0.03, agreement up to 7 shells, gains from −0.8 to 0.1), refined from their own first map or from a
molecule's.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from clarice.abinitio.refinement import Refined, Settings, agreed_radius, lay_on, shared_radius
from clarice.physics.noisy_set import NoisySet

# Halves that start from one map agree a little beyond what it held, whatever they are made of.
BEYOND_SHARED = 1.3
# How much further than the part orientations determine the whole map may agree, before its spherical mean is to blame.
BEYOND_ORIENTATIONS = 1.5
# Below this gain in log-likelihood a particle, against pure noise, a map explains nothing.
LEAST_GAIN = 1.0
UNSURE_CONFIDENCE = 0.25
# Particles that tell whether a starting map shows them at all.
SAMPLE = 300


def gain_by_start(particles: NoisySet, start: Tensor, settings: Settings) -> float:
    """Mean log-likelihood ratio of particles under a starting map (L, L, L), against pure noise.

    The whole start counts here, up to `settings.start_radius_px`: refinement itself begins with its coarse part, in
    which most maps of the right size are much alike.
    """
    some = particles.subset(particles.sample_rows(SAMPLE))
    return float(lay_on(some, start, settings).log_evidence.mean())


def doubts(refined: Refined, settings: Settings, stated_angstrom: float, pixel_size_angstrom: float) -> list[str]:
    """One sentence for each reason not to trust the map, at a stated resolution; none where all is well."""
    box = refined.volume.shape[-1]
    field_angstrom = box * pixel_size_angstrom
    found = []
    gain = refined.history[-1].mean_log_evidence
    if gain < LEAST_GAIN:
        found.append(
            f"particles are hardly likelier under the refined map than under pure noise (by {gain:.1f} in "
            "log-likelihood each): the map is not to be trusted, whatever its half maps agree on"
        )
    agreed, shared = max(agreed_radius(refined.fsc), 1), shared_radius(box, settings)
    if agreed < BEYOND_SHARED * shared:
        found.append(
            f"in what orientations determine, the half maps agree to {field_angstrom / agreed:.1f} Å, hardly beyond "
            f"the {field_angstrom / shared:.1f} Å of the map that both started from: pure noise reaches that too, so "
            "it is no evidence of a structure"
        )
    elif field_angstrom / stated_angstrom > BEYOND_ORIENTATIONS * agreed:
        found.append(
            f"the half maps agree to {stated_angstrom:.1f} Å, but without their spherical means only to "
            f"{field_angstrom / agreed:.1f} Å: beyond that the map is an average over wrong views"
        )
    median = float(np.median(refined.confidence))
    if median < UNSURE_CONFIDENCE:
        found.append(
            f"half of the particles have a pose confidence below {median:.2f}: most orientations are not determined, "
            "and a map averaged over wrong views agrees between half sets all the same; trust it only as far as its "
            "projections resemble the class averages"
        )
    return found
