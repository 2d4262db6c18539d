"""RELION's initial model, in as many goes as it takes: hours of it need not fit into one call of a benchmark.

RELION writes what it needs to go on every few iterations. Beside that stands a record of when each go began, so that
the time of a model is the time its goes spent up to the last results that were kept, plus that of the go that ended.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

from clarice.benchmark.measured import UNKNOWN, Usage
from clarice.benchmark.peer_relion import RelionJob, RelionSettings, refine_command, run_job
from clarice.benchmark.protocol import SimulatedStack
from clarice.pipeline.durable import write_json
from clarice.pipeline.frame import DEFAULT_SHIFT_SHARE

# The initial model's search for shifts, pixels.
OFFSET_STEP_PX = 2
# Iterations between the models written to the disk; the latest stands in for one that time ran out for.
WRITTEN_EVERY = 5
# A go is not begun for less.
LEAST_SECONDS = 60.0
_VOLUME, _TABLE, _STATE = "_class001.mrc", "_data.star", "_optimiser.star"
# RELION writes these of an iteration last, in this order: without them it cannot go on from there.
_WRITTEN_LAST = (_VOLUME, "_model.star", _TABLE, "_sampling.star")


def initial_model(stack: SimulatedStack, folder: Path, settings: RelionSettings) -> RelionJob:
    """A first map by stochastic gradient descent, without symmetry.

    With `settings.resume` a model begun in `folder` by the same command on the same images is gone on with, and a
    finished one is taken as it is; its time is that of all its goes.
    """
    command = refine_command(stack, stack.star, folder, settings, _options(stack, settings))
    goes = Goes.begin(folder, command, _digest(stack), resume=settings.resume)
    last = folder / f"run_it{sum(settings.model_iterations):03d}{_VOLUME}"
    earlier, state = goes.seconds_kept, goes.latest(_STATE)
    if goes.usage is None and goes.latest(_VOLUME) == last:
        goes = goes.finish(Usage(0, earlier, UNKNOWN, UNKNOWN))
    if goes.usage is not None:
        return RelionJob(goes.usage, _beside(last, _TABLE), last, ())
    if state is not None:
        command = ["relion_refine", "--continue", str(state), *_kept_options(command)]
    left = replace(settings, timeout_seconds=settings.timeout_seconds - earlier)
    if state is not None and left.timeout_seconds < LEAST_SECONDS:
        # Too little for an iteration, and RELION begins by writing the state that it goes on from once more.
        out_of_time = Usage(-signal.SIGKILL, 0.0, UNKNOWN, UNKNOWN, timed_out=True)
        return _latest(RelionJob(_with_earlier(out_of_time, earlier, settings), _beside(last, _TABLE), last, ()), goes)
    job = run_job(stack, command, folder / f"relion_{goes.number}.log", left, _beside(last, _TABLE), last)
    job = replace(job, usage=_with_earlier(job.usage, earlier, settings))
    if job.usage.timed_out:
        return _latest(job, goes)
    if not job.usage.failed:
        goes.finish(job.usage)
    return job


def _options(stack: SimulatedStack, settings: RelionSettings) -> list[object]:
    first, between, last = settings.model_iterations
    usual_px = DEFAULT_SHIFT_SHARE * stack.box
    offset_range_px = usual_px if settings.offset_range_px is None else settings.offset_range_px
    options: list[object] = ["--sgd", "--denovo_3dref", "--K", 1, "--sym", "C1", "--healpix_order", 1]
    options += ["--offset_range", offset_range_px, "--offset_step", OFFSET_STEP_PX]
    options += ["--sgd_ini_iter", first, "--sgd_inbetween_iter", between, "--sgd_fin_iter", last]
    return [*options, "--sgd_write_iter", WRITTEN_EVERY]


def _kept_options(command: list[str]) -> list[str]:
    """What RELION does not find in its own files when it goes on: where it writes, and how it computes."""
    kept = ["--preread_images", "--dont_combine_weights_via_disc"]
    for name, value in pairwise(command):
        if name in ("--o", "--pool", "--j", "--sgd_write_iter"):
            kept += [name, value]
    return kept


def _digest(stack: SimulatedStack) -> str:
    """Of the table and of its images."""
    digests = []
    for path in (stack.star, stack.folder / "particles.mrcs"):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return " ".join(digests)


def _with_earlier(usage: Usage, earlier: float, settings: RelionSettings) -> Usage:
    """The time of all goes, and the memory of the last; the processor's time of those broken off is not known."""
    if earlier == 0.0:
        return usage
    message = f"ended after {settings.timeout_seconds:.0f} s" if usage.timed_out else usage.message
    return replace(usage, seconds=usage.seconds + earlier, cpu_seconds=UNKNOWN, message=message)


def _latest(job: RelionJob, goes: Goes) -> RelionJob:
    """A job that time ran out for, with the last results it wrote instead, if any."""
    volume = goes.latest(_VOLUME)
    if volume is None:
        return job
    return replace(job, volume=volume, table=_beside(volume, _TABLE), iteration=_iteration(volume))


@dataclass(frozen=True)
class Goes:
    """The `number`th go at a job in `folder`, which `began` in seconds since 1970.

    Those before spent `seconds_kept` up to the last iteration that each of them kept. `usage` is what all of them used,
    once the job has ended well.
    """

    folder: Path
    command: list[str]
    images_sha256: str
    number: int = 0
    began: float = 0.0
    seconds_kept: float = 0.0
    usage: Usage | None = None

    @classmethod
    def begin(cls, folder: Path, command: list[str], images_sha256: str, *, resume: bool) -> Self:
        """Another go at the job that `folder` holds, or the first at a new one: then the folder is emptied."""
        found = cls._recorded(folder, command, images_sha256) if resume else None
        written = None if found is None else found.latest(_STATE)
        if found is None or written is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            found = cls(folder, command, images_sha256)
        elif found.usage is None:
            # Now, since RELION writes the state it goes on from once more. A go that kept nothing spent nothing.
            spent = max(written.stat().st_mtime - found.began, 0.0)
            found = replace(found, seconds_kept=found.seconds_kept + spent)
        if found.usage is None:
            found = replace(found, number=found.number + 1, began=time.time())
            found._save()
        return found

    @classmethod
    def _recorded(cls, folder: Path, command: list[str], images_sha256: str) -> Self | None:
        """The record in `folder`; None where there is none, or it is of another command or other images."""
        try:
            told = json.loads((folder / "goes.json").read_text(encoding="utf-8"))
            found = cls(folder, **{**told, "usage": None if told["usage"] is None else Usage(**told["usage"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if (found.command, found.images_sha256) == (command, images_sha256) else None

    def finish(self, usage: Usage) -> Self:
        """Records that the job has ended well, and what all its goes used."""
        finished = replace(self, usage=usage)
        finished._save()
        return finished

    def _save(self) -> None:
        told = {name: value for name, value in asdict(self).items() if name != "folder"}
        write_json(self.folder / "goes.json", told)

    def latest(self, ending: str) -> Path | None:
        """The file with this ending of the last iteration after the start that was written whole, None before one."""
        found = [path for path in self.folder.glob("run_it*_optimiser.star") if _iteration(path) > 0]
        whole = [path for path in found if all(_beside(path, end).is_file() for end in _WRITTEN_LAST)]
        return _beside(max(whole), ending) if whole else None


def _iteration(path: Path) -> int:
    return int(path.name.removeprefix("run_it").partition("_")[0])


def _beside(path: Path, ending: str) -> Path:
    """The file of the same iteration with another ending."""
    return path.with_name(f"{path.name.partition('_it')[0]}_it{_iteration(path):03d}{ending}")
