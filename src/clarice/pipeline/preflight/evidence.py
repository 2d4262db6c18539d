"""From measured evidence, and what the file and the user say, to a contrast and a CTF state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clarice.core.particles import ParticleSet
from clarice.io.cryosparc import CryosparcTable, missing_ctf_fields
from clarice.io.relion import RelionTable, missing_ctf_columns
from clarice.pipeline.preflight.pixels import DISK_SHARES, PixelScan, means_over_errors, z_scores
from clarice.pipeline.preflight.transfer import TransferFindings
from clarice.pipeline.preflight.verdict import Contrast, ContrastSign, CtfEvidence, CtfState

# A sign is believed from this z-score on (from the second if disk and low frequencies agree), if the
# strongest
# disk of the other sign stays below half of it.
CONTRAST_Z = 5.0
_AGREEING_Z = 4.0
_OPPOSITE_SHARE = 0.5
FLIP_Z = 5.0
_MULTIPLIED_BELOW, _UNTOUCHED_ABOVE = 0.35, 0.6
# Below this share of the variance outside the particle, signal fills the spectra and no noise tells of the
# CTF.
_MIN_BACKGROUND_SHARE = 0.2
_HEADERS: dict[str, CtfState] = {
    "rlnCtfDataAreCtfPremultiplied": "multiplied",
    "rlnCtfDataArePhaseFlipped": "flipped",
}


def judge_contrast(
    particles: ParticleSet, scan: PixelScan, transfer: TransferFindings | None, given: ContrastSign | None
) -> Contrast:
    """Protein bright or dark: what the user says, else the images, else the file, else ambiguous."""
    contrasts = scan.disk_contrasts()
    ratios, scores = means_over_errors(contrasts), z_scores(contrasts)
    best = int(np.argmax(np.abs(ratios)))
    against = -np.sign(ratios[best]) * ratios
    opposite = int(np.argmax(against))
    score = float(scores[best])
    low = None if transfer is None else _low_frequency_z(transfer.low_frequency_z, best)
    agree = low is not None and min(abs(low), abs(score)) >= _AGREEING_Z and low * score > 0
    one_sided = against[opposite] <= _OPPOSITE_SHARE * abs(ratios[best])
    clear = (abs(score) >= CONTRAST_Z or agree) and one_sided
    seen: ContrastSign = ("bright" if score > 0 else "dark") if clear else "ambiguous"
    stated = stated_contrast(particles)
    sign, basis = seen, "images"
    if given is not None:
        sign, basis = given, "option"
    elif seen == "ambiguous" and stated is not None:
        sign, basis = stated, "file"
    return Contrast(
        sign=sign,
        basis=basis,  # type: ignore[arg-type]
        disk_z=score,
        disk_radius_px=DISK_SHARES[best] * particles.box,
        disk_difference_sigma=_in_sigma(contrasts[:, best], scan),
        opposite_z=max(0.0, float(-np.sign(score) * scores[opposite])),
        low_frequency_z=low,
        stated=stated,
    )


def _in_sigma(contrasts: NDArray[np.float64], scan: PixelScan) -> float:
    sigma = scan.findings().background_sigma
    return float(contrasts.mean() / sigma) if len(contrasts) and sigma > 1e-30 else 0.0


def _low_frequency_z(ring_z: NDArray[np.float64], best: int) -> float:
    """The mean of the rings below the first zero of the particle's form factor, as one z-score."""
    rings = max(1, min(len(ring_z), int(0.45 / DISK_SHARES[best])))
    return float(ring_z[:rings].sum() / np.sqrt(rings))


def stated_contrast(particles: ParticleSet) -> ContrastSign | None:
    """What cryoSPARC's blob/sign says: −1 marks protein dark on bright. None where rows differ or say
    nothing.
    """
    table = particles.table
    if not isinstance(table, CryosparcTable) or "blob/sign" not in table.fields:
        return None
    signs = np.unique(np.sign(table.numbers("blob/sign")))
    if len(signs) != 1 or signs[0] == 0:
        return None
    return "bright" if signs[0] > 0 else "dark"


def judge_ctf(
    particles: ParticleSet, scan: PixelScan, transfer: TransferFindings | None, given: CtfState | None
) -> CtfEvidence:
    """What was done about the CTF: the user's word, else the images, else the file, else raw is assumed."""
    stated = stated_ctf_state(particles)
    seen = None if transfer is None else _seen_state(transfer, scan)
    other = None if transfer is None else transfer.other_scale
    state: CtfState = "none" if particles.optics is None else "raw"
    basis = "file" if particles.optics is None else "assumed"
    for found, source in ((stated, "file"), (seen, "images"), (given, "option")):
        if found is not None:
            state, basis = found, source
    return CtfEvidence(
        state=state,
        basis=basis,  # type: ignore[arg-type]
        zero_to_peak_power=None if transfer is None else transfer.zero_to_peak_power,
        flip_z=None if transfer is None else transfer.flip_z,
        missing=missing_ctf(particles),
        stated=stated,
        defocus_range_angstrom=_defocus_range(particles),
        pixel_factor=None if other is None else round(other.pixel_factor, 3),
        pixel_factor_z=None if other is None else other.z,
    )


def _seen_state(transfer: TransferFindings, scan: PixelScan) -> CtfState | None:
    ratio = transfer.zero_to_peak_power
    noise_rules = scan.background_share() >= _MIN_BACKGROUND_SHARE
    if ratio is not None and noise_rules and ratio < _MULTIPLIED_BELOW:
        return "multiplied"
    if transfer.other_scale is not None:
        return None  # by a wrong CTF, raw images look as if they had been flipped
    untouched = ratio is None or ratio > _UNTOUCHED_ABOVE or not noise_rules
    if transfer.flip_z is None or abs(transfer.flip_z) < FLIP_Z or not untouched:
        return None
    return "raw" if transfer.flip_z > 0 else "flipped"


def stated_ctf_state(particles: ParticleSet) -> CtfState | None:
    """What the columns of a STAR file say; None where they say nothing or groups differ."""
    table = particles.table
    if not isinstance(table, RelionTable):
        return None
    found: CtfState | None = None
    for column, state in _HEADERS.items():
        values = table.column(column)
        if values is not None and len(values):
            if (values == 1).all():
                return state
            found = "raw" if (values == 0).all() else None
    return found


def missing_ctf(particles: ParticleSet) -> tuple[str, ...]:
    """CTF columns or fields the table lacks; empty for a set without a table."""
    table = particles.table
    if isinstance(table, RelionTable):
        return tuple(f"_{column}" for column in missing_ctf_columns(table))
    if isinstance(table, CryosparcTable):
        return tuple(missing_ctf_fields(table))
    return ()


def _defocus_range(particles: ParticleSet) -> tuple[float, float] | None:
    if particles.optics is None:
        return None
    mean = (particles.optics.defocus_u_angstrom + particles.optics.defocus_v_angstrom) / 2
    return float(mean.min()), float(mean.max())
