"""The check of a stack: every question a run would stumble over, asked before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clarice.core.counting import counted
from clarice.core.errors import InputError
from clarice.core.particles import ParticleSet
from clarice.core.progress import Progress, silent
from clarice.io.refusals import ImagesMissingError, NotParticlesError, OptionNeededError
from clarice.io.stack import files_behind, open_particles
from clarice.pipeline.preflight.concerns import (
    contrast_warnings,
    ctf_problems,
    ctf_warnings,
    file_warnings,
    half_sets,
    image_problems,
    image_warnings,
    open_questions,
    set_warnings,
)
from clarice.pipeline.preflight.evidence import judge_contrast, judge_ctf
from clarice.pipeline.preflight.pixels import sample_rows, scan_pixels
from clarice.pipeline.preflight.transfer import TransferFindings, study_transfer
from clarice.pipeline.preflight.verdict import ContrastSign, CtfState, Kind, Verdict


def check_file(
    path: Path | str,
    root: Path | str | None = None,
    passthrough: Path | str | Sequence[Path | str] | None = None,
    pixel_size_angstrom: float | None = None,
    optics_group: int | None = None,
    contrast: ContrastSign | None = None,
    ctf_state: CtfState | None = None,
    progress: Progress = silent,
) -> Verdict:
    """Opens and checks a stack; a file that cannot be opened gets a verdict too, never an InputError."""
    try:
        particles = open_particles(path, root, passthrough, pixel_size_angstrom, optics_group)
        return check(particles, path, contrast, ctf_state, progress)
    except InputError as error:
        kinds: tuple[tuple[type[InputError], Kind], ...] = (
            (NotParticlesError, "not particles"),
            (ImagesMissingError, "images missing"),
            (OptionNeededError, "needs an option"),
        )
        kind: Kind = next((name for refusal, name in kinds if isinstance(error, refusal)), "broken")
        return Verdict(str(path), kind, usable=False, summary=str(error), problems=(str(error),))


def check(
    particles: ParticleSet,
    path: Path | str = "the particle set",
    contrast: ContrastSign | None = None,
    ctf_state: CtfState | None = None,
    progress: Progress = silent,
) -> Verdict:
    """Checks an open set: images, contrast, CTF state, normalisation, half sets.

    Statistics come from up to 2,000 images spread over the stack; every image is looked at for damage when
    the stack is small. `contrast` and `ctf_state` settle what the images leave open. Images are read lazily.
    """
    sampled = sample_rows(particles)
    scan = scan_pixels(particles, sampled, progress)
    findings = scan.findings()
    damaged = np.array(scan.not_finite + scan.constant, dtype=np.int64) - 1
    sound = np.setdiff1d(sampled, damaged)
    transfer: TransferFindings | None = None
    impossible = ctf_problems(particles)
    if particles.optics is not None and len(sound) and not impossible:
        transfer = study_transfer(particles, particles.optics, sound, progress)
    seen = judge_contrast(particles, scan, transfer, contrast)
    ctf = judge_ctf(particles, scan, transfer, ctf_state)
    problems = (*image_problems(findings), *impossible)
    needs = open_questions(particles, seen, ctf)
    warnings = (
        *file_warnings(particles),
        *contrast_warnings(seen),
        *ctf_warnings(particles, ctf),
        *image_warnings(particles, findings),
        *set_warnings(particles),
    )
    usable = not problems and not needs
    kind: Kind = "broken" if problems else "needs an option" if needs else "particles"
    return Verdict(
        path=str(path),
        kind=kind,
        usable=usable,
        summary=_summary(particles, path, problems, needs),
        problems=problems,
        needs=needs,
        warnings=warnings,
        particles=len(particles),
        box=particles.box,
        pixel_size_angstrom=particles.pixel_size_angstrom,
        image_files=_file_count(particles),
        micrographs=None if particles.micrograph is None else len(np.unique(particles.micrograph)),
        optics_groups=_groups(particles),
        half_sets=half_sets(particles),
        has_poses=particles.poses is not None,
        contrast=seen,
        ctf=ctf,
        images=findings,
    )


def _summary(particles: ParticleSet, path: Path | str, problems: tuple[str, ...], needs: tuple[str, ...]) -> str:
    size = f"{counted(len(particles), 'particle')} of {particles.box} px at {particles.pixel_size_angstrom:.4g} Å"
    if problems:
        return f"{path} holds {size}, but cannot be processed: {problems[0]}"
    if needs:
        return f"{path} holds {size}; one thing must be said first: {needs[0]}"
    return f"{path} holds {size} and can be processed"


def _file_count(particles: ParticleSet) -> int | None:
    behind = files_behind(particles.images)
    return None if behind is None else len(behind[0].files)


def _groups(particles: ParticleSet) -> tuple[int, ...] | None:
    return None if particles.optics_group is None else tuple(np.unique(particles.optics_group).tolist())
