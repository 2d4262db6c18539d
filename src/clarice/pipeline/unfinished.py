"""What a command keeps beside its outputs until it has ended, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from clarice import __version__
from clarice.core.errors import InputError, UsageError
from clarice.core.large_array import IN_MEMORY_BYTES
from clarice.core.particles import ParticleSet
from clarice.io.kept_results import Keeping, results_kept
from clarice.io.mrc import MrcSource
from clarice.io.stack import files_behind
from clarice.pipeline.durable import write_json
from clarice.pipeline.fingerprint import fingerprint_value
from clarice.pipeline.launched import Launched
from clarice.pipeline.lock import locked
from clarice.pipeline.preparation import Preparation
from clarice.pipeline.prepare import Prepared, with_prepared_images
from clarice.pipeline.run_folder import remove_leftovers

FOLDER = ".unfinished"
_IMAGES, _RECORD = "prepared.mrcs", "prepared.json"


@contextmanager
def unfinished(
    output: Path, names: Sequence[str], processes: Launched, job: Mapping[str, Any], read: Iterable[Path]
) -> Iterator[Keeping]:
    """Results are kept in a folder within `output` until the body has ended; what an equal job has left there is used.

    `names`: of the files it ends with, half-written ones of which are removed. A job is told by `job` (JSON types), the
    program's version, and size and time of change of the files it `read`.
    Raises OutputError where another process works in `output`, or nothing can be written there.
    """
    files = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in read]
    keeping = Keeping(output / FOLDER, processes.rank, processes.world, processes.meet)
    with _alone(output, names, processes.first), results_kept(keeping):
        keeping.begin(fingerprint_value([__version__, dict(job), files]))
        try:
            yield keeping
        except (InputError, UsageError):  # another call would come as far again, and no further
            if keeping.first and not keeping.holds_maps:
                keeping.discard()
            raise
        except BaseException:
            if keeping.first and not keeping.holds_results:
                keeping.discard()
            raise
        keeping.meet()
        if keeping.first:
            keeping.discard()


@contextmanager
def _alone(output: Path, names: Sequence[str], first: bool) -> Iterator[None]:
    """The folder's lock, which the first process holds for all; what a killed one left half-written is removed."""
    if not first:
        yield
        return
    with locked(output):
        remove_leftovers(output, names)
        yield


def particles_digest(particles: ParticleSet) -> str:
    """Tells which particles of their files these are, and what is known of them; not what their images show."""
    behind = files_behind(particles.images)
    optics = particles.optics
    known = [
        None if behind is None else behind[1],
        *([] if optics is None else vars(optics).values()),
        particles.half_set,
        particles.optics_group,
    ]
    told = hashlib.sha256(f"{len(particles)} {particles.box} {particles.pixel_size_angstrom}".encode())
    for values in known:
        told.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
    return told.hexdigest()


def prepared_once(
    particles: ParticleSet, box: int, keeping: Keeping, make: Callable[[Path | None], Prepared]
) -> Prepared:
    """Particles as `make` prepares them, its images in the file it is given, or in memory where that is None.

    They are kept in a file where a single process could not well hold them, or there are several: the first prepares,
    and a later call finds them.
    """
    if keeping.world == 1 and 4 * len(particles) * box**2 <= IN_MEMORY_BYTES:
        return make(None)
    images, record = keeping.folder / _IMAGES, keeping.folder / _RECORD
    if keeping.first and not record.exists():
        write_json(record, make(images).preparation.as_record())
    keeping.meet()
    preparation = Preparation.from_record(json.loads(record.read_text(encoding="utf-8")))
    return Prepared(with_prepared_images(particles, preparation, MrcSource.open(images)), preparation)
