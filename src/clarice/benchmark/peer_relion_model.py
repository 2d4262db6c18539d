"""RELION's initial model, in as many goes as it takes: hours of it need not fit into one call of a benchmark.

RELION writes what it needs to go on every few iterations. Beside that stands a record of when each go began, so that
the time of a model is the time its goes spent up to the last results that were kept, plus that of the go that ended.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

from clarice.benchmark.measured import UNKNOWN, Usage
from clarice.benchmark.peer_relion import RelionJob, RelionSettings, refine_command, run_job
from clarice.benchmark.protocol import SimulatedStack

# The initial model's search for shifts, pixels.
OFFSET_STEP_PX = 2
# Iterations between the models written to the disk; the latest stands in for one that time ran out for.
WRITTEN_EVERY = 5
_VOLUME, _TABLE, _STATE = "_class001.mrc", "_data.star", "_optimiser.star"


def initial_model(stack: SimulatedStack, folder: Path, settings: RelionSettings) -> RelionJob:
    """A first map by stochastic gradient descent, without symmetry.

    With `settings.resume` a model begun in `folder` by the same command on the same images is gone on with, and a
    finished one is taken as it is; its time is that of all its goes.
    """
    command = refine_command(stack, stack.star, folder, settings, _options(settings))
    goes = Goes.begin(folder, command, _digest(stack), resume=settings.resume)
    last = folder / f"run_it{sum(settings.model_iterations):03d}{_VOLUME}"
    earlier, state = goes.seconds_kept(), goes.latest(_STATE)
    if goes.usage is None and goes.latest(_VOLUME) == last:
        goes = goes.finish(Usage(0, earlier, UNKNOWN, UNKNOWN))
    if goes.usage is not None:
        return RelionJob(goes.usage, _beside(last, _TABLE), last, ())
    if state is not None:
        command = ["relion_refine", "--continue", str(state), *_kept_options(command)]
    left = replace(settings, timeout_seconds=max(settings.timeout_seconds - earlier, 0.0))
    job = run_job(stack, command, folder / f"relion_{len(goes.began)}.log", left, _beside(last, _TABLE), last)
    job = replace(job, usage=_with_earlier(job.usage, earlier, settings))
    if job.usage.timed_out:
        return _latest(job, goes)
    if not job.usage.failed:
        goes.finish(job.usage)
    return job


def _options(settings: RelionSettings) -> list[object]:
    first, between, last = settings.model_iterations
    options: list[object] = ["--sgd", "--denovo_3dref", "--K", 1, "--sym", "C1", "--healpix_order", 1]
    options += ["--offset_range", settings.offset_range_px, "--offset_step", OFFSET_STEP_PX]
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
    """Of the images and their table."""
    found = hashlib.sha256()
    for path in (stack.star, stack.folder / "particles.mrcs"):
        found.update(path.read_bytes())
    return found.hexdigest()


def _with_earlier(usage: Usage, earlier: float, settings: RelionSettings) -> Usage:
    """What all goes used: the processor's time of those that were broken off is not known."""
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
    """When each go at a job in `folder` began, in seconds since 1970, and what it used once it has ended well."""

    folder: Path
    command: list[str]
    images_sha256: str
    began: tuple[float, ...]
    usage: Usage | None = None

    @classmethod
    def begin(cls, folder: Path, command: list[str], images_sha256: str, *, resume: bool) -> Self:
        """Another go at the job that `folder` holds, or the first at a new one: then the folder is emptied."""
        found = cls._recorded(folder, command, images_sha256) if resume else None
        if found is None or found.latest(_STATE) is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            found = cls(folder, command, images_sha256, ())
        if found.usage is None:
            found = replace(found, began=(*found.began, time.time()))
            found._save()
        return found

    @classmethod
    def _recorded(cls, folder: Path, command: list[str], images_sha256: str) -> Self | None:
        """The record in `folder`; None where there is none, or it is of another command or other images."""
        try:
            told = json.loads((folder / "goes.json").read_text(encoding="utf-8"))
            usage = None if told["usage"] is None else Usage(**told["usage"])
            found = cls(folder, told["command"], told["images_sha256"], tuple(map(float, told["began"])), usage)
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
        place = self.folder / "goes.json"
        place.with_suffix(".part").write_text(json.dumps(told), encoding="utf-8")
        place.with_suffix(".part").replace(place)

    def latest(self, ending: str) -> Path | None:
        """The file with this ending of the last iteration after the start that was written whole, None before one."""
        found = [path for path in self.folder.glob("run_it*_optimiser.star") if _iteration(path) > 0]
        whole = [path for path in found if all(_beside(path, end).is_file() for end in (_VOLUME, _TABLE))]
        return _beside(max(whole), ending) if whole else None

    def seconds_kept(self) -> float:
        """Seconds that goes before the present one spent up to the last iteration each of them kept."""
        written = [path.stat().st_mtime for path in self.folder.glob("run_it*_optimiser.star")]
        kept = 0.0
        for start, end in pairwise(self.began):
            kept += max((time - start for time in written if start <= time < end), default=0.0)
        return kept


def _iteration(path: Path) -> int:
    return int(path.name.removeprefix("run_it").partition("_")[0])


def _beside(path: Path, ending: str) -> Path:
    """The file of the same iteration with another ending."""
    return path.with_name(f"{path.name.partition('_it')[0]}_it{_iteration(path):03d}{ending}")
