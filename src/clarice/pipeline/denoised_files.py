"""Denoised particles as files: images in the input's order, box and sign, with a table that fits them."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clarice.core.large_array import large_array, large_arrays_in
from clarice.core.particles import ImageSource, ParticleSet, RowIndex
from clarice.core.progress import Progress, silent
from clarice.denoise.notes import Notebook
from clarice.denoise.registry import Denoiser, denoise_all
from clarice.io.mrc import MrcSource, MrcStackWriter
from clarice.io.relion import OPTIONAL_CTF_COLUMNS
from clarice.io.stack import write_particles
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.denoised_notes import ERRORS, NOTES, write_errors, write_notes
from clarice.pipeline.durable import write_json
from clarice.pipeline.preparation import Preparation
from clarice.pipeline.prepare import Prepared

IMAGES, TABLE, RECORD = "denoised.mrcs", "denoised.star", "denoised.json"
# Standard deviation of each pixel over samples, by methods that sample.
DEVIATIONS = "denoised_deviation.mrcs"
# The denoised images are free of the CTF: a program that corrected them again would spoil them.
CTF_COLUMNS_TO_DROP = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", *OPTIONAL_CTF_COLUMNS.values())
_RESTORED_PIXELS = 2**22


@dataclass(frozen=True)
class DenoisedImages:
    """Denoised `images` (n, L, L) in the working box.

    `error_by_shell` (L // 2 + 1,): the mean squared error that the method expects in a coefficient of the orthonormal
    transform; None where it expects none in numbers.
    """

    images: Tensor
    error_by_shell: Tensor | None


# Gives the images of rows that were denoised before.
DenoisedBefore = Callable[[RowIndex], DenoisedImages]


def denoise_some(particles: NoisySet, method: Denoiser, progress: Progress = silent) -> DenoisedImages:
    """Particles denoised together, in memory."""
    count = len(particles)
    notes = Notebook(count, 1) if method.telling is not None else None
    images = torch.from_numpy(denoise_all(method(particles, notes=notes, progress=progress), count, particles.box))
    return DenoisedImages(images, _tensor(_mean_error_by_shell(notes)))


def _mean_error_by_shell(notes: Notebook | None) -> list[float] | None:
    """Over all images; None where the method told none."""
    if notes is None or notes.error_by_shell is None:
        return None
    return notes.error_by_shell.mean(axis=0).tolist()


def _tensor(values: list[float] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values)


def write_denoised(
    particles: ParticleSet,
    prepared: Prepared,
    method: Denoiser,
    folder: Path,
    *,
    halves_apart: bool = False,
    progress: Progress = silent,
    first: bool = True,
) -> float:
    """Denoises the `prepared` form of the raw `particles` and writes the three files; returns the seconds it took.

    Images are CTF-free projections in units of the input's noise standard deviation. A method that knows where its
    images came from gets a fourth file, `denoised_notes.NOTES`, one that knows how wrong each is
    `denoised_notes.ERRORS`, and one that samples `DEVIATIONS`. Of several processes that share out the work, only the
    `first` writes. Raises OutputError.
    """
    started = time.monotonic()
    noisy = prepared.noisy_set
    with large_arrays_in(folder), ExitStack() as held:
        apart = held.enter_context(large_array((len(noisy), noisy.box, noisy.box))) if method.several_samples else None
        notes = None if method.telling is None else Notebook(len(noisy), deviations=apart)
        found = method(noisy, halves_apart=halves_apart, progress=progress, notes=notes)
        if not first:
            deque(found, maxlen=0)
            return round(time.monotonic() - started, 2)
        restore = prepared.preparation.restore
        _write_stack(
            folder / IMAGES, particles, (restore(part) for _, images in found for part in _parts(images, particles.box))
        )
        # What another method once left here does not belong to these images.
        for name in (DEVIATIONS, NOTES, ERRORS):
            (folder / name).unlink(missing_ok=True)
        if apart is not None:
            _write_stack(folder / DEVIATIONS, particles, (abs(restore(part)) for part in _parts(apart, particles.box)))
    write_particles(particles, folder / TABLE, images_path=folder / IMAGES, drop_columns=CTF_COLUMNS_TO_DROP)
    if notes is not None:
        write_notes(notes, folder / NOTES)
        if notes.error_by_shell is not None:
            write_errors(notes.error_by_shell, folder / ERRORS)
    # No time of day and no duration: a stage that reads this is not to be run again because of them.
    record = {
        "method": method.name,
        "halves_apart": halves_apart,
        "expected_error_by_shell": _mean_error_by_shell(notes),
        "sampling": None if method.sampling is None else asdict(method.sampling),
        "preparation": prepared.preparation.as_record(),
    }
    write_json(folder / RECORD, record)
    return round(time.monotonic() - started, 2)


def add_to_record(folder: Path, found: dict[str, Any]) -> None:
    """Adds what was found out about the images of a folder to their record. Raises OutputError."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    write_json(folder / RECORD, {**record, **found})


def _parts(images: NDArray[np.float32], box: int) -> Iterator[NDArray[np.float32]]:
    """Images (n, w, w) in parts that are no large thing once they have an edge of `box`."""
    step = max(1, _RESTORED_PIXELS // box**2)
    for start in range(0, len(images), step):
        yield images[start : start + step]


def _write_stack(path: Path, particles: ParticleSet, images: Iterable[NDArray[np.float32]]) -> None:
    with MrcStackWriter(path, particles.box, particles.pixel_size_angstrom) as writer:
        for part in images:
            writer.append(part)


@dataclass(frozen=True)
class DenoisedFiles:
    """Images that `write_denoised` left in a folder, as they were in the working box."""

    images: ImageSource
    preparation: Preparation
    error_by_shell: Tensor | None

    @classmethod
    def of(cls, images: Path, record: dict[str, Any]) -> DenoisedFiles:
        """From the stack and the content of its record. Raises InputError when the images cannot be read."""
        error = _tensor(record.get("expected_error_by_shell"))
        return cls(MrcSource.open(images), Preparation.from_record(record["preparation"]), error)

    def read(self, rows: RowIndex) -> DenoisedImages:
        """The images of `rows`, counted in the stack."""
        step = max(1, _RESTORED_PIXELS // self.images.box**2)
        parts = [
            self.preparation.take_back(self.images.read(rows[start : start + step]))
            for start in range(0, len(rows), step)
        ]
        return DenoisedImages(torch.cat(parts), self.error_by_shell)
