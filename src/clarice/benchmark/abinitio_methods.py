"""What the protocol `abinitio` compares: first maps by `clarice abinitio`, RELION's initial model, ASPIRE's route.

Each is refined by `clarice refine`, so that like is compared with like before as well as after.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from clarice.benchmark import peer_relion as relion
from clarice.benchmark.abinitio_pictures import FIRST, REFINED, keep_map
from clarice.benchmark.measured import CLARICE, UNKNOWN, Usage, run_measured
from clarice.benchmark.peer_aspire import installed_aspire, optics_arrays
from clarice.benchmark.peer_relion_model import initial_model
from clarice.benchmark.protocol import FAILED, LaidMap, SimulatedStack, judge_poses, lay_map, read_rows
from clarice.benchmark.records import Row
from clarice.core.errors import ResourceError, UsageError
from clarice.denoise.registry import denoiser_names
from clarice.io.mrc import write_mrc
from clarice.io.stack import open_particles
from clarice.metrics.orientation import common_line_share
from clarice.physics.defocus import unit_optics

PROJECTION_MATCHING, LINES, BOTH, RELION, ASPIRE = "projection-matching", "lines", "both", "relion", "aspire"
USUAL = (f"{LINES}+polar-transformer", f"{LINES}+covariance-wiener", PROJECTION_MATCHING)
ASPIRE_DRIVER = Path(__file__).with_name("peer_aspire_map_driver.py")
# Ends the name of a method that is told the structure's point group.
WITH_SYMMETRY = "@symmetry"
_VOLTAGE_KV = 300.0


@dataclass(frozen=True)
class MapMethod:
    """A way from a stack to a first map, by name: `measure` gives what it is worth, refined too, time and memory."""

    name: str
    measure: Callable[[SimulatedStack], Row]


@dataclass(frozen=True)
class Limits:
    """Where and how programs are run; `max_shift_px` is how far off-centre particles are looked for, None as usual.

    With `resume` what RELION began in an earlier call is gone on with.
    """

    work: Path
    threads: int = 2
    timeout_seconds: float = 7200.0
    program: Sequence[str] = CLARICE
    max_shift_px: float | None = None
    resume: bool = False


def our_names() -> tuple[str, ...]:
    """Our own methods' names, each of which may end in `WITH_SYMMETRY`."""
    return (PROJECTION_MATCHING, BOTH, *(f"{LINES}+{name}" for name in denoiser_names()))


def known_names() -> tuple[str, ...]:
    """The methods' names."""
    return (*our_names(), *(f"{name}{WITH_SYMMETRY}" for name in our_names()), RELION, ASPIRE)


NAMES_IN_WORDS = (
    f"{', '.join((*our_names(), RELION, ASPIRE))}; one of ours with {WITH_SYMMETRY} is told the structure's point group"
)


def map_methods(names: Sequence[str], limits: Limits) -> list[MapMethod]:
    """The methods named. Raises UsageError, with the names there are, for any other."""
    unknown = [name for name in names if name not in known_names()]
    if unknown or not names:
        raise UsageError(f"--methods {','.join(names)!r} is not known: use some of {NAMES_IN_WORDS}")
    return [MapMethod(name, partial(_measure, name, _finder(name), limits)) for name in names]


@dataclass(frozen=True)
class FirstMap:
    """A first map, and the table of poses that came with it, if one did.

    `row` tells first_seconds, first_memory_mb, and what else is to be said; `group` is what refinement may know of the
    structure's symmetry.
    """

    volume: Path
    table: Path | None
    row: Row
    group: str = "C1"


Finder = Callable[[Limits, SimulatedStack], FirstMap]


def _finder(name: str) -> Finder:
    if name == RELION:
        return _relion
    if name == ASPIRE:
        return _aspire
    plain = name.removesuffix(WITH_SYMMETRY)
    options: tuple[str, ...] = ("--method", plain)
    if plain not in (PROJECTION_MATCHING, BOTH):
        options = ("--method", "common-lines", "--denoiser", plain.removeprefix(f"{LINES}+"))
    return partial(_ours, options, name != plain)


def _measure(name: str, find: Finder, limits: Limits, stack: SimulatedStack) -> Row:
    """A first map, judged as it is, and refined on the raw particles by `clarice refine`, whoever made it.

    Where the refinement fails, what was found of the first map stays.
    """
    first = find(limits, stack)
    laid = lay_map(first.volume, stack)
    keep_map(limits.work, stack, name, FIRST, laid)
    begun = judged(stack, laid, first.table)
    row: Row = {
        **first.row,
        "first_right": begun["right"],
        "first_verdict": verdict(begun["right"]),
        "first_05_px": begun["fsc_05_px"],
        "first_orientation_median_deg": begun.get("orientation_median_deg"),
    }
    place = _place(limits, "refined")
    settings: list[str | Path] = ["--map", first.volume, "-o", place / "refined", "--symmetry", first.group]
    try:
        refined = _clarice(limits, stack, ["refine", stack.star, *settings], place)
    except ResourceError as error:
        notes = (first.row.get("note"), f"the first map was not refined: {error}")
        return {**row, **FAILED, "note": "; ".join(filter(None, notes))}
    laid = lay_map(place / "refined" / "map.mrc", stack)
    keep_map(limits.work, stack, name, REFINED, laid)
    scores = judged(stack, laid, place / "refined" / "particles.star")
    return {
        **row,
        **scores,
        "verdict": verdict(scores["right"]),
        "seconds": round(first.row["first_seconds"] + refined.seconds, 1),
        "peak_memory_mb": round(max(first.row.get("first_memory_mb") or 0, refined.peak_memory_mb)),
    }


def verdict(right: bool) -> str:
    """Whether a map shows the structure, in words."""
    return "right" if right else "not found"


def _place(limits: Limits, name: str) -> Path:
    folder = limits.work / "abinitio" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def judged(stack: SimulatedStack, laid: LaidMap, table: Path | None) -> Row:
    """A map against the truth; poses as well, if there is a table and symmetry is known to judge them modulo."""
    row: Row = dict(vars(laid.scores))
    if table is None or not stack.subject.point_group.known:
        return row
    row |= judge_poses(table, stack)
    rotations = read_rows(table, stack).rotations
    if rotations is not None:
        symmetry = stack.subject.point_group.name
        row["common_lines"] = round(common_line_share(rotations, stack.true_views(), symmetry=symmetry), 4)
    return row


def _ours(options: Sequence[str], with_symmetry: bool, limits: Limits, stack: SimulatedStack) -> FirstMap:
    if with_symmetry and not stack.subject.point_group.known:
        raise ResourceError(f"the point group of {stack.subject.entry} was not looked into: it cannot be told")
    place = _place(limits, "ours")
    group = stack.subject.point_group.name if with_symmetry else "C1"
    made = place / "first"
    usage = _clarice(limits, stack, ["abinitio", stack.star, "-o", made, "--symmetry", group, *options], place)
    return FirstMap(made / "abinitio.mrc", made / "particles.star", _used(usage), group)


def _used(usage: Usage, seconds: float | None = None) -> Row:
    """What a first map took; `seconds` where the program timed itself."""
    row: Row = {"first_seconds": round(usage.seconds if seconds is None else seconds, 1)}
    if usage.peak_memory_mb != UNKNOWN:
        row["first_memory_mb"] = round(usage.peak_memory_mb)
    return row


def _clarice(limits: Limits, stack: SimulatedStack, arguments: Sequence[str | Path], place: Path) -> Usage:
    """Our command, with the stack's seed. Raises ResourceError with its message when it fails."""
    reach = limits.max_shift_px
    wide = [] if reach is None else ["--max-shift", f"{reach * stack.pixel_size_angstrom:.3f}"]
    usage = run_measured(
        [*limits.program, *arguments, *wide, "--seed", str(stack.seed)],
        folder=stack.folder,
        log=place / f"{arguments[0]}.log",
        threads=limits.threads,
        timeout_seconds=limits.timeout_seconds,
    )
    if usage.failed:
        raise ResourceError(usage.message)
    return usage


def _relion(limits: Limits, stack: SimulatedStack) -> FirstMap:
    """RELION's initial model, in a folder of each stack's own: it may take several calls."""
    absent = relion.missing()
    if absent is not None:
        raise ResourceError(absent)
    settings = relion.RelionSettings(
        limits.threads,
        limits.timeout_seconds,
        seed=stack.seed,
        offset_range_px=limits.max_shift_px,
        resume=limits.resume,
    )
    job = initial_model(stack, limits.work / "abinitio" / "relion" / stack.folder.name, settings)
    if job.usage.failed and job.iteration is None:
        raise ResourceError(job.usage.message)
    iterations = sum(settings.model_iterations)
    row: Row = {
        **_used(job.usage),
        "lower_bound": job.iteration is not None,  # time ran out: the map so far is judged
        "note": "; ".join(filter(None, (f"{relion.version()}, {iterations} iterations", job.ending()))),
    }
    return FirstMap(job.volume, job.table, row)


def _aspire(limits: Limits, stack: SimulatedStack) -> FirstMap:
    python = installed_aspire()
    place = _place(limits, "aspire")
    source, result, volume = place / "stack.npz", place / "result.npz", place / "map.mrc"
    particles = open_particles(stack.star)
    optics = unit_optics(len(particles), _VOLTAGE_KV) if particles.optics is None else particles.optics
    size = np.float64(stack.pixel_size_angstrom)
    np.savez(source, images=particles.read(), pixel_size=size, allow_pickle=False, **optics_arrays(optics))
    usage = run_measured(
        [python, "-E", ASPIRE_DRIVER, source, result],
        folder=place,
        log=place / "log",
        threads=limits.threads,
        timeout_seconds=limits.timeout_seconds,
    )
    if usage.failed:
        raise ResourceError(f"ASPIRE failed: {usage.message}")
    with np.load(result) as archive:
        write_mrc(volume, archive["volume"], stack.pixel_size_angstrom, is_volume=True)
        seconds, version = float(archive["seconds"]), str(archive["version"])
    return FirstMap(volume, None, {**_used(usage, seconds), "note": f"ASPIRE {version}"})
