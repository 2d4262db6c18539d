"""Denoised particles as files: images in the input's order, box and sign, with a table that fits them."""

from __future__ import annotations

import time
from pathlib import Path

from clarice.core.particles import ParticleSet
from clarice.core.progress import Progress, silent
from clarice.denoise.notes import Notebook
from clarice.denoise.registry import Denoiser
from clarice.io.mrc import MrcStackWriter
from clarice.io.relion import OPTIONAL_CTF_COLUMNS
from clarice.io.stack import write_particles
from clarice.pipeline.denoised_notes import NOTES, write_notes
from clarice.pipeline.durable import write_json
from clarice.pipeline.prepare import Prepared

IMAGES, TABLE, RECORD = "denoised.mrcs", "denoised.star", "denoised.json"
# The denoised images are free of the CTF: a program that corrected them again would spoil them.
CTF_COLUMNS_TO_DROP = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", *OPTIONAL_CTF_COLUMNS.values())
_RESTORED_PIXELS = 2**22


def write_denoised(
    particles: ParticleSet,
    prepared: Prepared,
    method: Denoiser,
    folder: Path,
    *,
    halves_apart: bool = False,
    progress: Progress = silent,
) -> float:
    """Denoises the `prepared` form of the raw `particles` and writes the three files; returns the seconds it took.

    Images are CTF-free projections in units of the input's noise standard deviation. A method that knows where its
    images came from gets a fourth file, `denoised_notes.NOTES`. Raises OutputError.
    """
    started = time.monotonic()
    notes = Notebook(len(particles)) if method.telling is not None else None
    with MrcStackWriter(folder / IMAGES, particles.box, particles.pixel_size_angstrom) as writer:
        step = max(1, _RESTORED_PIXELS // particles.box**2)
        for _, images in method(prepared.noisy_set, halves_apart=halves_apart, progress=progress, notes=notes):
            for start in range(0, len(images), step):
                writer.append(prepared.preparation.restore(images[start : start + step]))
    write_particles(particles, folder / TABLE, images_path=folder / IMAGES, drop_columns=CTF_COLUMNS_TO_DROP)
    if notes is not None:
        write_notes(notes, folder / NOTES)
    seconds = round(time.monotonic() - started, 2)
    record = {"method": method.name, "seconds": seconds, "halves_apart": halves_apart}
    write_json(folder / RECORD, {**record, "preparation": prepared.preparation.as_record()})
    return seconds
