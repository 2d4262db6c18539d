"""What stands in the way, what must be said first, and what is worth knowing: one sentence each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clarice.core.counting import counted
from clarice.core.particles import ParticleSet
from clarice.io.stack import files_behind
from clarice.pipeline.preflight.evidence import CONTRAST_Z, missing_ctf
from clarice.pipeline.preflight.verdict import CTF_COLUMN_COUNT, Contrast, CtfEvidence, ImageFindings

# A map takes so many particles at least.
FEWEST_FOR_A_MAP = 100
# Particles are hardly seen in focus.
_LEAST_DEFOCUS_ANGSTROM = 3000.0
# No defocus is as small as this throughout, and none in µm is larger.
_MICROMETRES = 20.0
# A microscope in use is aligned to a few hundred Å.
_LARGEST_ASTIGMATISM_ANGSTROM = 5000.0


def image_problems(found: ImageFindings) -> list[str]:
    """Damaged images that would spoil everything computed from them."""
    problems = []
    if found.not_finite:
        rows = ", ".join(map(str, found.not_finite_rows[:5]))
        problems.append(
            f"NaN, infinite or absurdly large values in {counted(found.not_finite, 'image')} (rows {rows}): remove them"
        )
    if found.constant:
        rows = ", ".join(map(str, found.constant_rows[:5]))
        problems.append(f"no content but one constant in {counted(found.constant, 'image')} (rows {rows}): remove them")
    return problems


def ctf_problems(particles: ParticleSet) -> list[str]:
    """CTF values that are incomplete or impossible."""
    missing = missing_ctf(particles)
    if 0 < len(missing) < CTF_COLUMN_COUNT:
        return [f"the CTF columns are incomplete: {', '.join(missing)} missing; add them, or remove the others"]
    optics = particles.optics
    if optics is None:
        return []
    limits = (
        ("voltage", optics.voltage_kv, 20, 2000, " kV"),
        ("spherical aberration", optics.spherical_aberration_mm, -100, 1000, " mm"),
        ("amplitude contrast", optics.amplitude_contrast, -1, 1, ""),
        ("defocus U", optics.defocus_u_angstrom, -2e6, 2e6, " Å"),
        ("defocus V", optics.defocus_v_angstrom, -2e6, 2e6, " Å"),
    )
    for name, values, low, high, unit in limits:
        wrong = np.flatnonzero((values < low) | (values > high))
        if len(wrong):
            row, value = wrong[0] + 1, values[wrong[0]]
            return [f"the {name} of row {row} is {value:g}{unit}, which no microscope has: correct the column"]
    astigmatism = float(np.median(np.abs(optics.defocus_u_angstrom - optics.defocus_v_angstrom)))
    if astigmatism > _LARGEST_ASTIGMATISM_ANGSTROM:
        return [f"defocus U and V lie {astigmatism:,.0f} Å apart, as on no microscope: are columns swapped?"]
    largest = float(np.abs([optics.defocus_u_angstrom, optics.defocus_v_angstrom]).max())
    if 0 < largest < _MICROMETRES:
        return [f"defocus reaches only {largest:g} Å: it must be in µm, so multiply the columns by 10,000"]
    return []


def open_questions(particles: ParticleSet, seen: Contrast, ctf: CtfEvidence) -> tuple[str, ...]:
    """What the user must say before the stack can be processed."""
    return (*_of_the_ctf(particles, ctf), *_of_the_contrast(seen))


def _of_the_ctf(particles: ParticleSet, ctf: CtfEvidence) -> tuple[str, ...]:
    """Where another pixel size or defocus than the stated one is that of the images, unless the user insists."""
    if ctf.pixel_factor is None or ctf.basis == "option":
        return ()
    size, stated_z = particles.pixel_size_angstrom, ctf.flip_z or 0.0
    return (
        f"the CTF in the images is not that of the table: pixels of {size * ctf.pixel_factor:.3g} Å instead of "
        f"{size:.3g} Å would fit, or defocus {1 / ctf.pixel_factor**2:.2g} times as large (z-scores "
        f"{ctf.pixel_factor_z:+.1f} against {stated_z:+.1f}); pass --pixel-size, correct the defocus columns, or "
        "pass --ctf-state to keep both",
    )


def _of_the_contrast(seen: Contrast) -> tuple[str, ...]:
    if seen.sign != "ambiguous":
        return ()
    if abs(seen.disk_z) >= CONTRAST_Z:
        other = -np.sign(seen.disk_z) * seen.opposite_z
        why = f"disks of different size disagree, z-scores {seen.disk_z:+.1f} and {other:+.1f}"
    else:
        why = f"strongest z-score {seen.disk_z:+.1f}"
    return (
        f"the images do not tell whether protein is bright or dark ({why}); pass --contrast bright or --contrast dark",
    )


def contrast_warnings(seen: Contrast) -> list[str]:
    """Where images, file and user disagree about the contrast."""
    warnings = []
    measured = "bright" if seen.disk_z > 0 else "dark"
    if seen.basis == "file":
        warnings.append(
            f"the images do not tell the contrast (z-score {seen.disk_z:+.1f}): protein is taken as "
            f"{seen.sign}, as "
            "blob/sign says; pass --contrast to change it"
        )
    elif seen.basis == "images" and seen.sign != "ambiguous" and seen.stated not in (None, seen.sign):
        warnings.append(f"blob/sign says protein is {seen.stated}, but the images show it {seen.sign}")
    elif seen.basis == "option" and seen.sign != measured and abs(seen.disk_z) >= 5:
        warnings.append(f"--contrast {seen.sign} was given, but the images show protein {measured}")
    return warnings


def ctf_warnings(particles: ParticleSet, ctf: CtfEvidence) -> list[str]:
    """What is assumed about the CTF, and where file and images disagree."""
    if particles.optics is None and ctf.incomplete:
        return []  # a problem, of which a warning would say the opposite
    warnings = []
    if particles.optics is None:
        warnings.append("no CTF is known for these particles: they are taken as they are, without CTF correction")
        return warnings
    if ctf.basis == "assumed" or (ctf.basis == "file" and ctf.state == "raw"):
        warnings.append(
            f"the images do not tell raw from phase-flipped: {ctf.state} is taken; pass --ctf-state "
            "flipped or "
            "--ctf-state multiplied if that is wrong"
        )
    if ctf.stated is not None and ctf.stated != ctf.state:
        warnings.append(f"the file says the CTF is {ctf.stated}, but {ctf.state} is taken (by the {ctf.basis})")
    low, high = ctf.defocus_range_angstrom or (0.0, 0.0)
    if abs(high) < _LEAST_DEFOCUS_ANGSTROM:
        warnings.append(f"defocus reaches only {high:g} Å: is it in nm or µm, or a placeholder?")
    elif low < 0:
        warnings.append(f"some particles are overfocused (defocus down to {low:.0f} Å)")
    return warnings


def image_warnings(particles: ParticleSet, found: ImageFindings) -> list[str]:
    """Copies, backgrounds, and what was not looked at."""
    warnings = []
    if found.duplicates:
        first, again = found.duplicate_rows[0]
        warnings.append(
            f"{counted(found.duplicates, 'copy', 'copies')} of other images (row {again} of row {first}, for one)"
        )
    if not found.normalised:
        warnings.append(
            f"backgrounds are not normalised (mean {found.background_mean:.3g}, σ "
            f"{found.background_sigma:.3g}): "
            "they will be"
        )
    if found.scanned < len(particles):
        warnings.append(f"{found.scanned} of {len(particles)} images were looked at for damage, spread over the stack")
    return warnings


def set_warnings(particles: ParticleSet) -> list[str]:
    """Too few particles for a map, and placeholders among half sets and poses."""
    warnings = []
    if len(particles) < FEWEST_FOR_A_MAP:
        warnings.append(
            f"{counted(len(particles), 'particle')} can be denoised and classified, but a map takes "
            f"{FEWEST_FOR_A_MAP} at least"
        )
    halves = half_sets(particles)
    if halves is not None and min(halves) == 0:
        warnings.append("the half-set column puts every particle into one half: halves will be assigned anew")
    if _same_everywhere(particles):
        warnings.append("all orientations are the same: the pose columns are placeholders")
    return warnings


def _same_everywhere(particles: ParticleSet) -> bool:
    poses = particles.poses
    return poses is not None and len(poses) > 1 and float(np.ptp(poses.rotations, axis=0).max()) == 0


def file_warnings(particles: ParticleSet) -> list[str]:
    """Odd headers and repeated rows."""
    behind = files_behind(particles.images)
    if behind is None:
        return []
    source, rows = behind
    found: dict[str, int] = {}
    for file in source.files:
        for warning in file.header.warnings:
            found[warning] = found.get(warning, 0) + 1
    warnings = [f"in {count} image files {warning}" if count > 1 else warning for warning, count in found.items()]
    keys = source.file_numbers[rows].astype(np.int64) << 40 | source.sections[rows]
    repeated = len(keys) - len(np.unique(keys))
    if repeated:
        warnings.append(
            f"{counted(repeated, 'row repeats', 'rows repeat')} an image of another row: half sets that share an image "
            f"agree by themselves, so remove the copies{_shared_by_halves(particles, keys)}"
        )
    if particles.table is None and particles.pixel_size_angstrom == 1.0:
        warnings.append("the pixel size of 1 Å is what programs write when they do not know it: pass --pixel-size")
    return warnings


def _shared_by_halves(particles: ParticleSet, keys: NDArray[np.int64]) -> str:
    """How many images the file puts into both half sets, where it says."""
    if particles.half_set is None:
        return ""
    first, second = (keys[particles.half_set == half] for half in (1, 2))
    shared = len(np.intersect1d(first, second))
    return f" ({counted(shared, 'image')} in both half sets of the file)" if shared else ""


def half_sets(particles: ParticleSet) -> tuple[int, int] | None:
    """Particles in half 1 and in half 2; None where the file does not say."""
    if particles.half_set is None:
        return None
    return int((particles.half_set == 1).sum()), int((particles.half_set == 2).sum())
