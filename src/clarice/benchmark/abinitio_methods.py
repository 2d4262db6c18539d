"""What the protocol `abinitio` compares: `clarice abinitio` and `refine`, RELION's initial model, ASPIRE's route."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from clarice.benchmark import peer_relion as relion
from clarice.benchmark.contest import used
from clarice.benchmark.measured import CLARICE, Usage, run_measured
from clarice.benchmark.peer_aspire import installed_aspire, optics_arrays
from clarice.benchmark.peer_relion_model import initial_model
from clarice.benchmark.protocol import SimulatedStack, judge_map, judge_poses, read_rows
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
    """A way from a stack to a first map, by name: `measure` gives what its map and poses are worth, time and memory."""

    name: str
    measure: Callable[[SimulatedStack], Row]


@dataclass(frozen=True)
class Limits:
    """Where and how programs are run; `max_shift_px` is how far off-centre particles are looked for, None as usual."""

    work: Path
    threads: int = 2
    timeout_seconds: float = 7200.0
    program: Sequence[str] = CLARICE
    max_shift_px: float | None = None


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
    return [MapMethod(name, partial(_measure(name), limits)) for name in names]


def _measure(name: str) -> Callable[[Limits, SimulatedStack], Row]:
    if name == RELION:
        return _relion
    if name == ASPIRE:
        return _aspire
    plain = name.removesuffix(WITH_SYMMETRY)
    options: tuple[str, ...] = ("--method", plain)
    if plain not in (PROJECTION_MATCHING, BOTH):
        options = ("--method", "common-lines", "--denoiser", plain.removeprefix(f"{LINES}+"))
    return partial(_ours, options, name != plain)


def _place(limits: Limits, name: str) -> Path:
    folder = limits.work / "abinitio" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def judged(stack: SimulatedStack, volume: Path, table: Path | None) -> Row:
    """A map against the truth; poses as well, if there is a table and symmetry is known to judge them modulo."""
    row: Row = dict(vars(judge_map(volume, stack)))
    if table is None or not stack.subject.point_group.known:
        return row
    row |= judge_poses(table, stack)
    rotations = read_rows(table, stack).rotations
    if rotations is not None:
        symmetry = stack.subject.point_group.name
        row["common_lines"] = round(common_line_share(rotations, stack.true_views(), symmetry=symmetry), 4)
    return row


def _ours(options: Sequence[str], with_symmetry: bool, limits: Limits, stack: SimulatedStack) -> Row:
    """A first map, refined on the raw particles as a user would: the refined one is judged."""
    if with_symmetry and not stack.subject.point_group.known:
        raise ResourceError(f"the point group of {stack.subject.entry} was not looked into: it cannot be told")
    place = _place(limits, "ours")
    group = stack.subject.point_group.name if with_symmetry else "C1"
    first = _clarice(limits, stack, ["abinitio", stack.star, "-o", place / "first", "--symmetry", group, *options])
    start = place / "first" / "abinitio.mrc"
    settings: list[str | Path] = ["--map", start, "-o", place / "refined", "--symmetry", group]
    refined = _clarice(limits, stack, ["refine", stack.star, *settings])
    begun = judge_map(start, stack)
    return {
        **judged(stack, place / "refined" / "map.mrc", place / "refined" / "particles.star"),
        "first_05_px": begun.fsc_05_px,
        "first_seconds": round(first.seconds, 1),
        "seconds": round(first.seconds + refined.seconds, 1),
        "peak_memory_mb": round(max(first.peak_memory_mb, refined.peak_memory_mb)),
    }


def _clarice(limits: Limits, stack: SimulatedStack, arguments: Sequence[str | Path]) -> Usage:
    """Our command, with the stack's seed. Raises ResourceError with its message when it fails."""
    reach = limits.max_shift_px
    wide = [] if reach is None else ["--max-shift", f"{reach * stack.pixel_size_angstrom:.3f}"]
    usage = run_measured(
        [*limits.program, *arguments, *wide, "--seed", str(stack.seed)],
        folder=stack.folder,
        log=limits.work / "abinitio" / "ours" / f"{arguments[0]}.log",
        threads=limits.threads,
        timeout_seconds=limits.timeout_seconds,
    )
    if usage.failed:
        raise ResourceError(usage.message)
    return usage


def _relion(limits: Limits, stack: SimulatedStack) -> Row:
    absent = relion.missing()
    if absent is not None:
        raise ResourceError(absent)
    reach = relion.MODEL_OFFSET_RANGE_PX if limits.max_shift_px is None else limits.max_shift_px
    settings = relion.RelionSettings(limits.threads, limits.timeout_seconds, seed=stack.seed, offset_range_px=reach)
    job = initial_model(stack, _place(limits, "relion"), settings)
    if job.usage.failed and job.iteration is None:
        raise ResourceError(job.usage.message)
    iterations = sum(settings.model_iterations)
    return {
        **used(job.usage),
        **judged(stack, job.volume, job.table),
        "failed": False,  # time may have run out: then the map so far is judged
        "lower_bound": job.iteration is not None,
        "note": "; ".join(filter(None, (f"{relion.version()}, {iterations} iterations", job.ending()))),
    }


def _aspire(limits: Limits, stack: SimulatedStack) -> Row:
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
    return {
        **judged(stack, volume, None),
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(usage.peak_memory_mb),
        "note": f"ASPIRE {version}",
    }
