"""The last stages of the job: a first map, its refinement, and poses for the raw stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clarice.abinitio import refinement
from clarice.abinitio.evidence import doubts
from clarice.abinitio.half_sets import all_half_sets
from clarice.abinitio.pose_assignment import lay_closely
from clarice.core.particles import Poses
from clarice.io.atomic import writing
from clarice.io.cryosparc import CryosparcTable
from clarice.io.mrc import read_mrc, write_mrc
from clarice.io.relion import particle_rows
from clarice.io.stack import write_particles
from clarice.io.star import integers
from clarice.metrics.map_files import is_same_map
from clarice.metrics.masks import mask_from_map
from clarice.pipeline.advice_files import ADVICE, ADVISED_BY, write_advice
from clarice.pipeline.denoised_files import IMAGES, RECORD, DenoisedBefore, DenoisedFiles
from clarice.pipeline.first_map import find_first_map
from clarice.pipeline.first_map_settings import FirstMapSettings
from clarice.pipeline.fsc_files import ONE_MAP, write_fsc
from clarice.pipeline.particle_stages import PREPARED, open_prepared
from clarice.pipeline.stack_input import StackInput
from clarice.pipeline.stages import Stage, stage
from clarice.pipeline.work import Work


def mirrored(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """The other hand of a map (L, L, L): x → −x about index L // 2."""
    flipped = volume[:, :, ::-1]
    return np.roll(flipped, 1, axis=2) if volume.shape[0] % 2 == 0 else np.ascontiguousarray(flipped)


FIRST_MAP = ("abinitio.mrc", "abinitio.json")


def abinitio(settings: FirstMapSettings) -> Stage:
    """A first map of the selected raw particles; common lines lay those that are denoised already."""
    return _abinitio_of_denoised(settings=settings) if settings.denoises else _abinitio_of_raw(settings=settings)


@stage("ab initio", reads=[*PREPARED, "selection.json", IMAGES, RECORD], writes=FIRST_MAP)
def _abinitio_of_denoised(work: Work, *, settings: FirstMapSettings) -> None:
    ready = DenoisedFiles.of(work.input(IMAGES), work.read_json(RECORD))
    rows = selected_rows(work)
    _abinitio(work, settings, lambda chosen: ready.read(rows[chosen]))


@stage("ab initio", reads=[*PREPARED, "selection.json"], writes=FIRST_MAP)
def _abinitio_of_raw(work: Work, *, settings: FirstMapSettings) -> None:
    _abinitio(work, settings, None)


def _abinitio(work: Work, settings: FirstMapSettings, denoised: DenoisedBefore | None) -> None:
    noisy, _ = open_prepared(work)
    found = find_first_map(noisy.subset(selected_rows(work)), settings, work.progress, denoised)
    for warning in found.warnings:
        work.warn(warning)
    write_mrc(work.output("abinitio.mrc"), found.volume.numpy(), noisy.particles.pixel_size_angstrom, is_volume=True)
    work.write_json("abinitio.json", found.as_record())
    work.say(found.said)


def selected_rows(work: Work) -> NDArray[np.int64]:
    """Rows of the stack that the selection kept."""
    return np.asarray(work.read_json("selection.json")["rows"], dtype=np.int64)


REFINED = ("map.mrc", "map_mirror.mrc", "half1.mrc", "half2.mrc", "mask.mrc")


@stage(
    "refine",
    reads=[*PREPARED, "selection.json", *FIRST_MAP],
    writes=[*REFINED, "fsc.star", "fsc.json", "refinement.json", "poses.npz"],
)
def refine(work: Work, *, diameter_px: float, symmetry: str, max_shift_px: float, seed: int) -> None:
    """The map refined on the selected raw particles, half sets apart."""
    noisy, _ = open_prepared(work)
    rows = selected_rows(work)
    chosen = noisy.subset(rows)
    particles = chosen.particles
    half_set = all_half_sets(noisy.particles, seed)[rows]
    start = torch.from_numpy(read_mrc(work.input("abinitio.mrc"))[0])
    settings = refinement.Settings(
        diameter_px,
        symmetry=symmetry,
        max_shift_px=max_shift_px,
        start_radius_px=work.read_json("abinitio.json")["radius_px"],
        seed=seed,
    )
    refined = refinement.refine(chosen, start, half_set, settings, work.progress, work.checkpoint())
    pixel = particles.pixel_size_angstrom
    volume = refined.volume.numpy()
    mask = mask_from_map(volume)
    halves = (refined.halves[0].numpy(), refined.halves[1].numpy())
    for name, content in zip(REFINED, (volume, mirrored(volume), *halves, mask), strict=True):
        write_mrc(work.output(name), np.ascontiguousarray(content), pixel, is_volume=True)
    stated = write_fsc(work.output("fsc.json").parent, halves, mask, pixel, seed, int(refined.history[-1].radius_px))
    for doubt in [*([ONE_MAP] if is_same_map(*halves) else []), *doubts(refined, settings, pixel)]:
        work.warn(doubt)
    _write_history(work, refined, noisy.box, pixel)
    _write_poses(work, rows, refined)
    work.say(f"{stated.words} at FSC 0.143 (Nyquist {2 * pixel:.1f} Å)")


def _write_history(work: Work, refined: refinement.Refined, box: int, pixel_size_angstrom: float) -> None:
    iterations: list[dict[str, Any]] = [
        {**vars(row), "resolution_angstrom": box * pixel_size_angstrom / max(row.agreement_px, 1.0)}
        for row in refined.history
    ]
    confidence = [round(float(value), 4) for value in refined.confidence]
    work.write_json("refinement.json", {"iterations": iterations, "pose_confidence": confidence})


def _write_poses(work: Work, rows: NDArray[np.int64], refined: refinement.Refined) -> None:
    """Poses of the selected rows, shifts in working pixels, exactly as they are."""
    with writing(work.output("poses.npz")) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            rows=rows,
            confidence=refined.confidence,
            rotations=refined.poses.rotations,
            shifts_px=refined.poses.shifts_px,
        )


@stage(
    "export",
    reads=[*PREPARED, "poses.npz", "map.mrc", "fsc.json", "class_members.star", *ADVISED_BY],
    writes=["particles.star", ADVICE],
    optional=["particles.cs"],
)
def export(
    work: Work,
    stack: StackInput,
    *,
    whereabouts: str,  # noqa: ARG001
    diameter_px: float,
    symmetry: str,
    max_shift_px: float,
    seed: int,
) -> None:
    """Poses for every row of the raw stack, and what the run advises; `whereabouts`, of the images it names, makes the
    table anew when they move.

    Rows that selection left out are laid on the finished map, which both halves made: their half set says where they
    belong, not that their pose is independent of the other half.
    """
    noisy, preparation = open_prepared(work)
    count = len(noisy)
    rotations, shifts = np.broadcast_to(np.eye(3), (count, 3, 3)).copy(), np.zeros((count, 2))
    half_set, confidence = all_half_sets(noisy.particles, seed), np.zeros(count)
    with np.load(work.input("poses.npz")) as known:
        rows = known["rows"]
        rotations[rows], shifts[rows] = known["rotations"], known["shifts_px"]
        confidence[rows] = known["confidence"]
    left_out = np.setdiff1d(np.arange(count), rows)
    if len(left_out):
        fsc = work.read_json("fsc.json")
        radius = fsc["box"] * fsc["pixel_size_angstrom"] / fsc["resolution_angstrom"]["0.143"]
        settings = refinement.Settings(diameter_px, symmetry=symmetry, max_shift_px=max_shift_px, seed=seed)
        volume = torch.from_numpy(read_mrc(work.input("map.mrc"))[0])
        laid = lay_closely(noisy.subset(left_out), volume, settings, radius)
        rotations[left_out], shifts[left_out] = laid.poses.rotations, laid.poses.shifts_px
        confidence[left_out] = laid.confidence
    poses = Poses(rotations[rows], shifts[rows])
    write_advice(work, noisy.subset(rows), poses, half_set[rows], preparation, diameter_px, symmetry)
    scale = preparation.working_pixel_size_angstrom / preparation.input_pixel_size_angstrom
    members = particle_rows(work.input("class_members.star"))
    particles = stack.open()
    names = ["particles.star"] + (["particles.cs"] if isinstance(particles.table, CryosparcTable) else [])
    for name in names:
        extra = {"rlnMaxValueProbDistribution": confidence} if name.endswith(".star") else None
        write_particles(
            particles,
            work.output(name),
            poses=Poses(rotations, shifts * scale),
            class_number=integers(members, "rlnClassNumber", "class_members.star"),
            half_set=half_set,
            extra_columns=extra,
        )
