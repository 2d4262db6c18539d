"""The first stages of the job: is the stack fit for work, and its particles prepared and denoised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clarice.abinitio.half_sets import all_half_sets
from clarice.denoise.registry import get_denoiser
from clarice.io.stack import open_particles, write_particles
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.denoised_files import DEVIATIONS, IMAGES, RECORD, TABLE, write_denoised
from clarice.pipeline.denoised_notes import ERRORS, NOTES
from clarice.pipeline.preflight import check as check_particles
from clarice.pipeline.preparation import Preparation
from clarice.pipeline.prepare import Prepared
from clarice.pipeline.prepare import prepare as prepare_particles
from clarice.pipeline.stack_input import StackInput
from clarice.pipeline.stages import stage
from clarice.pipeline.work import Work

PREPARED = ("prepared.mrcs", "prepared.star", "prepared.json")


@stage("check", writes=["check.json"])
def check(work: Work, stack: StackInput, *, contrast: str | None, ctf_state: str | None) -> None:
    """Looks at the stack before anything else does; raises InputError or UsageError when it cannot be processed."""
    verdict = check_particles(stack.open(), stack.table, contrast, ctf_state, work.progress)  # type: ignore[arg-type]
    verdict.insist()
    work.write_json("check.json", verdict.as_json())
    for warning in verdict.warnings:
        work.warn(warning)
    work.say(verdict.summary)


@stage("prepare", reads=["check.json"], writes=PREPARED)
def prepare(work: Work, stack: StackInput, *, working_box: int | None) -> None:
    """Particles protein bright, noise white with variance 1, in the working box."""
    verdict = work.read_json("check.json")
    particles = stack.open()
    prepared = prepare_particles(
        particles,
        sign=1 if verdict["contrast"]["sign"] == "bright" else -1,
        ctf_state=verdict["ctf"]["state"] if verdict["ctf"] else "raw",
        working_box=working_box,
        images_path=work.output("prepared.mrcs"),
        progress=work.progress,
    )
    write_particles(prepared.particles, work.output("prepared.star"), images_path=work.output("prepared.mrcs"))
    record = prepared.preparation.as_record()
    optics = particles.optics
    if optics is None:
        work.warn("the stack has no CTF columns, so its images are taken as they are")
    else:
        defocus = (optics.defocus_u_angstrom + optics.defocus_v_angstrom) / 2
        record["defocus"] = {"min": float(defocus.min()), "mean": float(defocus.mean()), "max": float(defocus.max())}
    work.write_json("prepared.json", record)


def open_prepared(work: Work) -> tuple[NoisySet, Preparation]:
    """The prepared particles of a run, for a stage that declares to read `PREPARED`."""
    prepared = _prepared(work)
    return prepared.noisy_set, prepared.preparation


def _prepared(work: Work) -> Prepared:
    work.input("prepared.mrcs")
    particles = open_particles(work.input("prepared.star"))
    return Prepared(particles, Preparation.from_record(work.read_json("prepared.json")))


@stage("denoise", reads=PREPARED, writes=[IMAGES, TABLE, RECORD], optional=[NOTES, ERRORS, DEVIATIONS])
def denoise(
    work: Work,
    stack: StackInput,
    *,
    method: str,
    weights: tuple[Path, ...],  # noqa: ARG001
    seed: int,
) -> None:
    """CTF-free projections in the input's box, order and sign, in units of the input's noise standard deviation.

    `weights`: the files that a trained method reads, so that other weights make other images. Half sets, which `seed`
    decides where the table does not, are apart from here on: no image has a source in the other one.
    """
    prepared = _prepared(work)
    half_set = all_half_sets(prepared.particles, seed)
    apart = replace(prepared, particles=replace(prepared.particles, half_set=half_set))
    folder = work.output(IMAGES).parent
    with work.keeping_results():
        write_denoised(stack.open(), apart, get_denoiser(method), folder, halves_apart=True, progress=work.progress)
