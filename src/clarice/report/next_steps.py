"""How to go on from a run in RELION and cryoSPARC, with what its particles need said about them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarice.report.folder import RunFiles, number
from clarice.report.provenance import symmetry_of

# Image files looked for to tell where a table's names lead from.
_FILES_LOOKED_FOR = 20


@dataclass(frozen=True)
class Command:
    """A command to copy, and what it is for."""

    purpose: str
    text: str


@dataclass(frozen=True)
class NextSteps:
    """Commands for RELION, steps for cryoSPARC."""

    relion: tuple[Command, ...]
    cryosparc: tuple[str, ...]


@dataclass(frozen=True)
class _Particles:
    """What other programs must be told of the run's stack."""

    some_left_out: bool
    dark: bool
    ctf_state: str

    @classmethod
    def of(cls, run: RunFiles) -> _Particles:
        prepared, selection = run.json("prepared.json"), run.json("selection.json")
        kept, total = number(selection.get("kept")), number(selection.get("total"))
        some_left_out = kept is not None and total is not None and kept < total
        return cls(some_left_out, number(prepared.get("sign")) == -1, str(prepared.get("ctf_state", "raw")))

    @property
    def ctf_options(self) -> str:
        """What tells RELION's programs of the CTF, each option after a space."""
        if self.ctf_state == "none":
            return ""
        return " --ctf --ctf_phase_flipped" if self.ctf_state == "flipped" else " --ctf"


def next_steps(run: RunFiles, record: dict[str, Any], diameter_angstrom: float | None) -> NextSteps | None:
    """How to go on from the files this run wrote; None until poses and a map are there."""
    if not (run.has("particles.star") and run.has("map.mrc")):
        return None
    particles = _Particles.of(run)
    return NextSteps(tuple(_relion(run, record, particles, diameter_angstrom)), tuple(_cryosparc(run, particles)))


def _relion(
    run: RunFiles, record: dict[str, Any], particles: _Particles, diameter_angstrom: float | None
) -> Iterator[Command]:
    start = folder_of_names(run)
    here = run.path.resolve()
    if start != here:
        yield Command("Start where the image paths in particles.star lead from", f"cd {shlex.quote(str(start))}")

    def place(name: str) -> str:
        return shlex.quote(str(here.relative_to(start) / name))

    table = "particles.star"
    if particles.some_left_out:
        yield Command(
            "Leave out the particles that went into no map",
            f"clarice select {place('class_members.star')} --auto --stack {place(table)} -o {place('kept.star')}",
        )
        table = "kept.star"
    if particles.dark:
        yield Command(
            "Make protein bright, as RELION expects it, in new images beside the raw ones",
            f"relion_image_handler --i {place(table)} --o bright --multiply_constant -1",
        )
        table = f"{Path(table).stem}_bright.star"
    reference, resampling = _reference(run, record)
    if resampling:
        text = f"relion_image_handler --i {place('map.mrc')} --o {place(reference)} {resampling}"
        yield Command("Bring the map to the particles' pixel size and box", text)
    symmetry, ctf = shlex.quote(symmetry_of(record)), particles.ctf_options
    yield Command(
        "Check the poses: reconstruct without any search",
        f"relion_reconstruct --i {place(table)} --o {place('check.mrc')}{ctf} --sym {symmetry}",
    )
    diameter = f"{10 * round(1.15 * diameter_angstrom / 10 + 0.5):.0f}" if diameter_angstrom else "DIAMETER_ANGSTROM"
    premultiplied = "; say first, by a column _rlnCtfDataAreCtfPremultiplied of 1 in data_optics, what was done already"
    yield Command(
        "Refine in RELION (make the folder Refine3D first"
        + (premultiplied if particles.ctf_state == "multiplied" else "")
        + ")",
        f"mpirun -n 3 relion_refine_mpi --i {place(table)} --ref {place(reference)} --firstiter_cc --ini_high 30 "
        f"--o {place('Refine3D/run')} --auto_refine --split_random_halves{ctf} --particle_diameter {diameter} "
        "--flatten_solvent --zero_mask --oversampling 1 --healpix_order 2 --auto_local_healpix_order 4 "
        f"--offset_range 5 --offset_step 2 --sym {symmetry} --norm --scale --low_resol_join_halves 40 "
        "--pool 3 --pad 2 --j 4",
    )


def _reference(run: RunFiles, record: dict[str, Any]) -> tuple[str, str]:
    """The map to start from, and the options that make it of map.mrc; none where that fits as it is."""
    source, fsc = record.get("input"), run.json("fsc.json")
    source = source if isinstance(source, dict) else {}
    raw_pixel, map_pixel = number(source.get("pixel_size_angstrom")), number(fsc.get("pixel_size_angstrom"))
    raw_box, map_box = number(source.get("box")), number(fsc.get("box"))
    if not (raw_pixel and map_pixel and raw_box and map_box):
        return "map.mrc", ""
    if raw_box == map_box and abs(raw_pixel - map_pixel) <= 1e-4:
        return "map.mrc", ""
    options = f"--angpix {map_pixel:.6g} --rescale_angpix {raw_pixel:.6g} --new_box {raw_box:.0f}"
    return "map_for_relion.mrc", options


def folder_of_names(run: RunFiles) -> Path:
    """The folder from which the image names of particles.star lead to files: the run's, or one above it."""
    here = run.path.resolve()
    table = run.table("particles.star", "rlnImageName")
    if table is None:
        return here
    names = [str(name).rpartition("@")[2] for name in table["rlnImageName"].drop_duplicates().head(10_000)]
    files = [Path(name) for name in list(dict.fromkeys(names))[:_FILES_LOOKED_FOR]]
    for place in (here, *here.parents):
        if all((place / file).is_file() for file in files):
            return place
    return here


def _cryosparc(run: RunFiles, particles: _Particles) -> Iterator[str]:
    meta = "particles.cs" if run.has("particles.cs") else "particles.star"
    if particles.some_left_out:
        kept = f"kept{Path(meta).suffix}"
        yield (
            f"Leave out the particles that went into no map: clarice select class_members.star --auto --stack {meta} "
            f"-o {kept}"
        )
        meta = kept
    sign = "; set “Data Sign” to dark on light" if particles.dark else ""
    yield f"Import Particle Stack: “Particle meta path” is {meta} in this folder; the poses come in with it{sign}."
    mirror = " and, as a second volume, map_mirror.mrc (the other hand)." if run.has("map_mirror.mrc") else "."
    yield "Import 3D Volumes: choose map.mrc" + mirror
    yield "Homogeneous Refinement with particles and map, or Local Refinement to start from these poses."
