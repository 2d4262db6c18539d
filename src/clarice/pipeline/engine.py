"""Runs the stages of a pipeline in a run folder, each only when its inputs have changed.

A stage counts as done only once `run.json` says so, which is written after its outputs are whole and on the
disk; it is marked as running before the first of them is touched. So whenever the process dies, the same
command finds either the finished stage or one to do again, and comes to the same result.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence

from clarice import __version__
from clarice.core.batches import is_out_of_memory
from clarice.core.errors import OutputError, ResourceError
from clarice.core.progress import Progress, silent
from clarice.pipeline.durable import sync
from clarice.pipeline.fingerprint import fingerprint_source, fingerprint_value
from clarice.pipeline.foretelling import estimate_text
from clarice.pipeline.resources import PeakMemory, duration_text, insist_on_disk, insist_on_memory, size_text
from clarice.pipeline.run_folder import RunFolder
from clarice.pipeline.run_record import StageRecord, timestamp
from clarice.pipeline.stages import Estimate, Stage, check_order
from clarice.pipeline.work import Work

logger = logging.getLogger(__name__)


def execute(run: RunFolder, stages: Sequence[Stage], progress: Progress = silent, until: str | None = None) -> None:
    """Brings the run folder up to date with `stages`, in order, up to and including the stage named `until`.

    Stages that the folder records but `stages` no longer has are removed with their files; those beyond `until` stay,
    marked where they are out of date. Raises
    ResourceError before any work when memory or disk is plainly not enough; passes on what a stage raises.
    """
    check_order(stages)
    wanted = list(stages)
    if until is not None:
        wanted = wanted[: [stage.name for stage in stages].index(until) + 1]
    _forget_dropped_stages(run, stages)
    _mark_outdated(run, stages)
    _check_resources(run, wanted, _pending(run, wanted))
    for stage in wanted:
        inputs_hash = _inputs_hash(run, stage)
        entry = run.record.stage(stage.name)
        if entry is not None and _up_to_date(run, entry, inputs_hash):
            entry.status = "skipped"
            run.discard_working_folder(stage.name)
            run.save()
            run.say(f"{stage.name}: unchanged, skipped")
        else:
            _perform(run, stage, inputs_hash, progress)
    _mark_outdated(run, stages)
    run.record.finished = timestamp()
    run.save()


def _mark_outdated(run: RunFolder, stages: Sequence[Stage]) -> None:
    """Marks what earlier calls left and these stages would make otherwise, so that nobody takes it for theirs."""
    pending = {stage.name for stage in _pending(run, stages)}
    for entry in run.record.stages:
        if entry.complete and entry.name in pending:
            entry.status = "outdated"
        elif entry.status == "outdated":
            entry.status = "skipped"
    run.save()


def _inputs_hash(run: RunFolder, stage: Stage) -> str:
    """Hash of all that decides the result: package, parameters, source files, files of earlier stages."""
    return fingerprint_value(
        {
            "version": __version__,
            "stage": stage.name,
            "parameters": stage.parameters,
            "sources": [fingerprint_source(path) for path in stage.sources],
            "reads": {name: run.fingerprint(name) for name in stage.reads},
        }
    )


def _up_to_date(run: RunFolder, entry: StageRecord, inputs_hash: str) -> bool:
    return entry.complete and entry.inputs_hash == inputs_hash and run.intact(entry)


def _pending(run: RunFolder, stages: Sequence[Stage]) -> list[Stage]:
    """The stages to run, as far as can be told: one that reads a file rewritten may find it unchanged."""
    pending: list[Stage] = []
    rewritten: set[str] = set()
    for stage in stages:
        entry = run.record.stage(stage.name)
        if entry is None or rewritten & set(stage.reads) or not _up_to_date(run, entry, _inputs_hash(run, stage)):
            pending.append(stage)
            rewritten |= set(stage.outputs)
    return pending


def _forget_dropped_stages(run: RunFolder, stages: Sequence[Stage]) -> None:
    kept = {stage.name for stage in stages}
    still_written = {name for stage in stages for name in stage.outputs}
    for entry in [entry for entry in run.record.stages if entry.name not in kept]:
        run.record.stages.remove(entry)
        run.record.drop_warnings(entry.name)
        run.save()
        run.remove([name for name in entry.outputs if name not in still_written])
        run.discard_working_folder(entry.name)
        run.say(f"{entry.name}: no longer part of this run, its files are removed")
    order = [stage.name for stage in stages]
    run.record.stages.sort(key=lambda entry: order.index(entry.name))


def _check_resources(run: RunFolder, stages: Sequence[Stage], pending: Sequence[Stage]) -> None:
    """Tells what the work will need and refuses what cannot end well."""
    estimates = {stage.name: stage.estimate or Estimate() for stage in pending}
    if not estimates:
        run.say("nothing has changed: every step is up to date")
        return
    seconds = sum(estimate.seconds for estimate in estimates.values())
    hungriest = max(estimates, key=lambda name: estimates[name].memory_mb)
    memory_mb, disk_mb = estimates[hungriest].memory_mb, sum(e.disk_mb for e in estimates.values())
    if any(stage.estimate for stage in pending):
        run.say(f"{len(pending)} of {len(stages)} steps to do: {estimate_text(Estimate(seconds, memory_mb, disk_mb))}")
    insist_on_memory(hungriest, memory_mb)
    insist_on_disk("the run", disk_mb, run.folder)


def _perform(run: RunFolder, stage: Stage, inputs_hash: str, progress: Progress) -> None:
    entry = StageRecord(stage.name, "running", timestamp(), inputs_hash, dict(stage.parameters))
    run.record.drop_warnings(stage.name)
    run.record.put(entry)
    run.save()
    run.remove(stage.outputs)
    run.say(f"{stage.name}: started")
    begun = time.monotonic()
    try:
        with PeakMemory() as peak:
            _call(stage, Work(run, stage, inputs_hash, progress))
    except Exception as error:
        entry.status, entry.error = "failed", str(error)
        run.remove(stage.outputs)
        run.save()
        raise
    entry.seconds = round(time.monotonic() - begun, 3)
    entry.peak_memory_mb = round(peak.megabytes, 1)
    _record_outputs(run, stage, entry)
    run.discard_working_folder(stage.name)
    run.say(f"{stage.name}: done in {duration_text(entry.seconds)}, peak memory {size_text(entry.peak_memory_mb)}")


def _call(stage: Stage, work: Work) -> None:
    """Calls the stage's function, turning exhausted memory and disk into errors a user can mend."""
    try:
        stage.function(work)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(f"{stage.name}: the disk of {work.run.folder} is full: make room, then run again") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            f"{stage.name}: memory ran out: use a smaller working box (--working-box) or a machine with more memory"
        ) from error


def _record_outputs(run: RunFolder, stage: Stage, entry: StageRecord) -> None:
    """Writes down the stage as done, once its outputs are safe on the disk."""
    run.written(stage.outputs)
    present = [name for name in stage.outputs if run.path(name).is_file()]
    missing = set(stage.writes) - set(present)
    if missing:
        raise RuntimeError(f"stage {stage.name} did not write {', '.join(sorted(missing))}")
    for name in present:
        sync(run.path(name))
    sync(run.folder)
    entry.outputs = present
    entry.output_hashes = {name: run.fingerprint(name) or "" for name in present}
    entry.status = "done"
    run.save()
