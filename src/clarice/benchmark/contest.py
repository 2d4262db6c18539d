"""One stack on which everybody is run: our commands and RELION's, each a row with what it used and how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clarice.benchmark import peer_relion as relion
from clarice.benchmark.code_version import code_version
from clarice.benchmark.main_job import Request, run_clarice, stage_seconds, stated_resolution
from clarice.benchmark.measured import UNKNOWN, Usage, run_measured
from clarice.benchmark.peer_relion_model import initial_model
from clarice.benchmark.protocol import SimulatedStack, judge_classes, judge_map, judge_poses, read_rows
from clarice.benchmark.records import Row
from clarice.core.errors import ResourceError
from clarice.geometry.so3 import angle_between_deg

COMPARISONS = ("denoise", "classes", "map", "agreement")
CLASSES = 20
# Of our runs: their time then counts no network, and their maps are the same with any.
DENOISER = "covariance-wiener"
CLASSIFY, FIRST_MAP, WHOLE_RUN = "clarice classify", "clarice, to its first map", "clarice run, whole"
RELION_CLASSES, RELION_MODEL = "RELION 2D classification", "RELION initial model"
CEILING = "relion_reconstruct, true angles"
RECONSTRUCTED, REFINED = "relion_reconstruct, our poses", "relion_refine, from our files"


@dataclass(frozen=True)
class PeerRequest:
    """A request with what concerns peers: which comparisons, and whether RELION's iterations are cut."""

    base: Request
    comparisons: tuple[str, ...] = COMPARISONS
    quick: bool = False

    def relion(self, seed: int) -> relion.RelionSettings:
        """How RELION is run."""
        base = self.base
        return relion.RelionSettings(base.threads, base.timeout_seconds, seed, self.quick, resume=base.resume)


@dataclass(frozen=True)
class Contest:
    """One stack on which everybody is run."""

    stack: SimulatedStack
    place: Path
    request: PeerRequest

    @property
    def run(self) -> tuple[Path, Usage]:
        """Our run folder and what the run used; raises ResourceError where it failed, and does not start it again."""
        folder, usage = self._run_once
        if usage.failed:
            raise ResourceError(f"clarice run failed: {usage.message}")
        return folder, usage

    @cached_property
    def _run_once(self) -> tuple[Path, Usage]:
        """The run, failed or not; a resumed call takes a finished one by the same code and settings."""
        folder, record, base = self.place / "run", self.place / "run_usage.json", self.request.base
        made_by = {
            "source_sha256": code_version().source_sha256,
            "settings": base.settings.record(base.data, base.threads),
        }
        if base.resume and (folder / "particles.star").is_file():
            usage = _recorded_usage(record, made_by)
            if usage is not None:
                return folder, usage
        record.unlink(missing_ok=True)
        usage = run_clarice(self.stack, folder, base, DENOISER)
        if not usage.failed:
            record.write_text(json.dumps({**made_by, "usage": asdict(usage)}), encoding="utf-8")
        return folder, usage

    @property
    def relion(self) -> relion.RelionSettings:
        """How RELION is run on this stack."""
        return self.request.relion(self.stack.seed)


def _recorded_usage(record: Path, made_by: dict[str, Any]) -> Usage | None:
    """What a finished run used, from its record; None when there is none or the run was made by anything else."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        same = all(told[name] == value for name, value in made_by.items())
        return Usage(**told["usage"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def used(usage: Usage) -> Row:
    """What a command used, as columns of a row."""
    row: Row = {"seconds": round(usage.seconds, 2)}
    if usage.cpu_seconds != UNKNOWN:
        row["cpu_seconds"] = round(usage.cpu_seconds, 2)
    if usage.peak_memory_mb != UNKNOWN:
        row["peak_memory_mb"] = round(usage.peak_memory_mb)
    return {**row, "failed": True, "note": usage.message} if usage.failed else row


def our_classes(contest: Contest) -> Row:
    """`clarice classify` as a user starts it, with as many classes as RELION gets."""
    stack, base, folder = contest.stack, contest.request.base, contest.place / "classes"
    options = ["--classes", str(CLASSES), "--seed", str(stack.seed)]
    usage = run_measured(
        [*map(str, base.program), "classify", stack.star, "-o", folder, *options],
        folder=stack.folder,
        log=contest.place / "classes.log",
        threads=base.threads,
        timeout_seconds=base.timeout_seconds,
    )
    return (
        used(usage) if usage.failed else {**used(usage), **judge_classes(folder / "class_members.star", stack, CLASSES)}
    )


def relion_classes(contest: Contest) -> Row:
    """RELION's 2D classification."""
    job = relion.classify(contest.stack, contest.place / "relion_classes", contest.relion, CLASSES)
    row = {**used(job.usage), **_told(contest, job, f"{contest.relion.class_iterations} iterations")}
    return row if job.usage.failed else {**row, **judge_classes(job.table, contest.stack, CLASSES)}


def relion_model(contest: Contest) -> Row:
    """RELION's initial model, its map and its poses judged."""
    job = initial_model(contest.stack, contest.place / "relion_model", contest.relion)
    row = {**used(job.usage), **_told(contest, job, f"{sum(contest.relion.model_iterations)} iterations")}
    if job.iteration is not None:
        # Its map so far is judged, and its time is more than was measured.
        row |= {"failed": False, "lower_bound": True}
    elif job.usage.failed:
        return row
    return {**row, **vars(judge_map(job.volume, contest.stack)), **judge_poses(job.table, contest.stack)}


def _told(contest: Contest, job: relion.RelionJob, iterations: str) -> Row:
    """RELION's version, iterations and warnings as a note; a quick row says that it is not the protocol's."""
    parts = [relion.version(), iterations]
    if contest.request.quick:
        parts.append("quick: fewer iterations than the protocol's, no measure of RELION")
    return {"note": "; ".join(filter(None, (*parts, job.ending(), *job.warnings)))}


def our_first_map(contest: Contest) -> Row:
    """The first map of our run. Its time is the whole run's, less the stages after it."""
    folder, usage = contest.run
    seconds = stage_seconds(folder)
    names = list(seconds)
    if "ab initio" not in names:
        return {"failed": True, "note": "the run's record has no stage named ab initio"}
    later = sum(seconds[name] for name in names[names.index("ab initio") + 1 :])
    row: Row = {"seconds": round(usage.seconds - later, 2), "note": "start-up and report included"}
    return {**row, **vars(judge_map(folder / "abinitio.mrc", contest.stack))}


def our_whole_run(contest: Contest) -> Row:
    """Our whole run: denoised particles, classes, refined map, poses and report."""
    folder, usage = contest.run
    scores = vars(judge_map(folder / "map.mrc", contest.stack))
    return {**used(usage), **scores, **judge_poses(folder / "particles.star", contest.stack)}


def ceiling(contest: Contest) -> Row:
    """What the images hold: RELION's reconstruction from the true poses."""
    volume = contest.place / "ceiling.mrc"
    job = relion.reconstruct(contest.stack, contest.stack.folder / "truth.star", volume, contest.relion)
    return used(job.usage) if job.usage.failed else {**used(job.usage), **vars(judge_map(volume, contest.stack))}


def reconstructed(contest: Contest) -> Row:
    """RELION's reconstruction from our poses, against the truth and beside our own map."""
    folder, _ = contest.run
    job = relion.reconstruct(contest.stack, folder / "particles.star", contest.place / "our_poses.mrc", contest.relion)
    if job.usage.failed:
        return used(job.usage)
    stated = stated_resolution(folder)
    if stated is None:
        return {"failed": True, "note": "the run states no resolution"}
    found = relion.agreement(job.volume, folder / "map.mrc", stated)
    note = (
        f"FSC with our map holds 0.143 to {found.agrees_to_angstrom:.1f} Å, "
        f"{'beyond or at' if found.beyond_stated else 'SHORT OF'} the {stated:.1f} Å we state"
    )
    row = {**used(job.usage), **vars(judge_map(job.volume, contest.stack)), **asdict(found)}
    return {**row, "beyond_stated": found.beyond_stated, "note": note}


def refined(contest: Contest) -> Row:
    """RELION's refinement started from our table and map, for one iteration around our angles."""
    folder, _ = contest.run
    ours = folder / "particles.star"
    job = relion.start_refinement(
        contest.stack, ours, folder / "map.mrc", contest.place / "relion_refine", contest.relion
    )
    if job.usage.failed:
        return {**used(job.usage), "warnings": list(job.warnings)}
    before, after = (read_rows(path, contest.stack).rotations for path in (ours, job.table))
    if before is None or after is None:
        return {**used(job.usage), "failed": True, "note": "the tables hold no angles"}
    said = "; ".join(job.warnings) or "no complaint"
    moved = float(np.median(angle_between_deg(before, after)))
    note = f"{said}; angles moved by a median of {moved:.1f}°"
    return {**used(job.usage), **judge_poses(job.table, contest.stack), "warnings": list(job.warnings), "note": note}


# In each comparison, ours comes first: a peer's row can then tell its ratio.
TASKS: dict[str, tuple[tuple[str, Callable[[Contest], Row], bool], ...]] = {
    "classes": ((CLASSIFY, our_classes, False), (RELION_CLASSES, relion_classes, True)),
    "map": (
        (FIRST_MAP, our_first_map, False),
        (WHOLE_RUN, our_whole_run, False),
        (CEILING, ceiling, True),
        (RELION_MODEL, relion_model, True),
    ),
    "agreement": ((RECONSTRUCTED, reconstructed, True), (REFINED, refined, True)),
}
