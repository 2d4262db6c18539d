"""`clarice benchmark`: the published protocols, each printing its table."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from clarice.benchmark import line_contest as lines
from clarice.benchmark import main_job as job
from clarice.benchmark import moment_contest as moments
from clarice.benchmark import moment_particles
from clarice.benchmark import peers as contests
from clarice.benchmark.contest import COMPARISONS, PeerRequest
from clarice.benchmark.main_job import Request
from clarice.benchmark.protocol import StackSettings
from clarice.benchmark.records import Results, Row
from clarice.benchmark.structures import TEST_ENTRIES, chosen_entries, load_subject, seeds_of, structures_folder, words
from clarice.cli.benchmark_abinitio import register as register_abinitio
from clarice.cli.benchmark_ablations import register as register_ablations
from clarice.cli.benchmark_denoise import numbers
from clarice.cli.benchmark_denoise import register as register_denoise
from clarice.cli.benchmark_nulls import register as register_null
from clarice.cli.benchmark_options import (
    BoxOption,
    DataOption,
    MoleculesOption,
    OutOption,
    ResumeOption,
    ThreadsOption,
    TimeoutOption,
    WorkOption,
    denoisers_named,
    insist_on_limits,
    make_folders,
    some_of,
    tell_procedural,
)
from clarice.cli.benchmark_real import register as register_real
from clarice.cli.benchmark_results import tell
from clarice.cli.benchmark_speed import register as register_speed
from clarice.cli.benchmark_structural import register as register_structural
from clarice.cli.benchmark_synchronization import register as register_synchronization
from clarice.cli.console import console, showing_progress
from clarice.cli.groups import command_group
from clarice.core.errors import UsageError
from clarice.core.progress import Progress

_O = typer.Option
EntriesOption = Annotated[
    str | None, _O("--entries", help="Structures, as in 1qvr,3pei or molecule-101; the acceptance set if absent.")
]
TestSetOption = Annotated[bool, _O("--test-set", help="Take the structures kept for published tables.")]
SeedsOption = Annotated[str, _O("--seeds", help="Seeds, one stack each.")]
ParticlesOption = Annotated[int, _O("--particles", help="Particles a stack.")]
SnrOption = Annotated[float, _O("--snr", help="Signal-to-noise ratio.")]
ShiftOption = Annotated[float, _O("--shift-px", help="Largest shift in x and y, pixels.")]


MethodsOption = Annotated[str, _O("--methods", help="Denoisers, each a run of its own on every stack.")]
_LINE_METHODS = {"clarice": lines.OURS, "aspire": lines.ASPIRE}
LINE_METHODS = ",".join(_LINE_METHODS)
SnrsOption = Annotated[str, _O("--snr", help="Signal-to-noise ratios, a list; clean: without noise.")]
ShiftsOption = Annotated[str, _O("--shift-px", help="Standard deviations of the shifts in x and y, pixels, a list.")]
LineMethodsOption = Annotated[str, _O("--methods", help=f"Programs, of {LINE_METHODS}.")]
CasesOption = Annotated[
    str,
    _O(
        "--cases",
        help="Moments: exact, or of particles 10000, 100000; exact-everywhere, 10000-everywhere.",
    ),
]
StartsOption = Annotated[int, _O("--starts", min=1, help="Random starts of a fit; the nearest to the moments is kept.")]
OnlyOption = Annotated[str, _O("--only", help=f"Comparisons to make, of {', '.join(COMPARISONS)}.")]
QuickOption = Annotated[
    bool, _O("--quick", help="Cut RELION's iterations to a tenth; such rows say so and measure nothing.")
]


class Protocol(typing.Protocol):
    """A protocol with its own options settled."""

    def __call__(self, request: Request, *, shown: Callable[[Row], None], progress: Progress) -> Results: ...


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    protocols = command_group("The published protocols, each printing its table.")
    protocols.command("main-job")(command(main_job))
    protocols.command("peers")(command(peers, seeds="1", timeout=180.0))
    protocols.command(lines.NAME)(command(common_lines, seeds="1", particles=200))
    protocols.command(moments.NAME)(
        command(fit_moments, without=("particles", "snr", "shift_px", "threads", "timeout"), seeds="1")
    )
    register_denoise(protocols)
    register_abinitio(protocols)
    register_ablations(protocols)
    register_speed(protocols)
    register_structural(protocols)
    register_synchronization(protocols)
    register_null(protocols)
    register_real(protocols)
    app.add_typer(protocols, name="benchmark")


def main_job(methods: MethodsOption = ",".join(job.METHODS)) -> Protocol:
    """Simulate stacks, run the whole job on each, and compare maps, poses and denoised images with the truth."""
    chosen = denoisers_named(methods, job.METHODS)
    return lambda request, **how: job.main_job(request, chosen, **how)


def peers(only: OnlyOption = ",".join(COMPARISONS), quick: QuickOption = False) -> Protocol:
    """Run ASPIRE and RELION, where installed, beside our steps on the same stacks, and print ratios."""
    comparisons = tuple(some_of(only, "--only", COMPARISONS))
    return lambda request, **how: contests.peers(PeerRequest(request, comparisons, quick), **how)


def common_lines(
    snr: SnrsOption = "clean,1,0.5,0.2,0.1", shift_px: ShiftsOption = "0", methods: LineMethodsOption = LINE_METHODS
) -> Protocol:
    """Find common lines and rotations beside ASPIRE on the same projections without CTF, and compare with the truth."""
    ratios = [None if word == lines.CLEAN else numbers(word, "--snr", float)[0] for word in words(snr)]
    shifts = numbers(shift_px, "--shift-px", float)
    chosen = tuple(words(methods))
    unknown = [name for name in chosen if name not in _LINE_METHODS]
    if unknown or not chosen or not ratios:
        raise UsageError(f"--methods {methods!r} and --snr {snr!r}: name some of {LINE_METHODS}, and a ratio or clean")
    if any(ratio is not None and ratio <= 0 for ratio in ratios) or not shifts or min(shifts) < 0:
        raise UsageError(f"--snr {snr!r} must be above 0 and --shift-px {shift_px!r} not negative")
    return lambda request, **how: lines.line_contest(
        lines.LineRequest(request, ratios, shifts, [_LINE_METHODS[name] for name in chosen]), **how
    )


def fit_moments(cases: CasesOption = "exact,10000", starts: StartsOption = 8) -> Protocol:
    """Fit structures and densities of views to moments, exact or of simulated particles, and compare with the truth."""
    known = {moment_particles.word_of(name): name for name in moment_particles.CASES}
    chosen = some_of(cases, "--cases", known)
    return lambda request, **how: moments.moment_contest(
        moments.MomentRequest(request, [known[word] for word in chosen], starts), **how
    )


def command(settle: Callable[..., Protocol], without: Sequence[str] = (), **defaults: object) -> Callable[..., None]:
    """The command that runs a protocol: its options are those of `make_request` and of `settle`.

    `settle` checks the protocol's own options and gives what is to be run; its docstring is the command's help. Where
    both have an option it is the protocol's own. `defaults` replace those of `make_request`; options that the protocol
    has no use for are left out, `without`.
    """
    own = inspect.signature(settle, eval_str=True).parameters
    common = dict(inspect.signature(make_request, eval_str=True).parameters)
    for name in (*own, *without):
        common.pop(name, None)
    replaced = {name: common[name].replace(default=default) for name, default in defaults.items()}

    def run(**given: Any) -> None:
        protocol = settle(**{name: given.pop(name) for name in own})
        request = make_request(**given)
        with showing_progress() as progress:
            results = protocol(request, shown=tell_row, progress=progress)
        tell(results, given["out"])

    run.__doc__ = settle.__doc__
    run.__signature__ = inspect.Signature([*{**common, **replaced, **own}.values()])  # type: ignore[attr-defined]
    return run


def make_request(
    entries: EntriesOption = None,
    test_set: TestSetOption = False,
    seeds: SeedsOption = "1,2",
    particles: ParticlesOption = 2000,
    box: BoxOption = 64,
    snr: SnrOption = 0.1,
    shift_px: ShiftOption = 3.0,
    data: DataOption = None,
    molecules: MoleculesOption = False,
    out: OutOption = Path("benchmarks"),
    work: WorkOption = Path("scratch/benchmark"),
    resume: ResumeOption = False,
    threads: ThreadsOption = 2,
    timeout: TimeoutOption = 60.0,
) -> Request:
    """The request the options make; raises UsageError before any work when one of them is wrong."""
    if molecules and test_set:
        raise UsageError("--molecules and --test-set exclude each other: drop one of them")
    if test_set and entries is not None:
        raise UsageError("--test-set and --entries exclude each other: drop one of them")
    insist_on_limits(threads, timeout)
    data = None if molecules else data
    chosen = _chosen(entries, test_set, structures_folder(data))
    settings = StackSettings(particles=particles, box=box, snr=snr, max_shift_px=shift_px)
    settings.simulation(1, None)
    numbers = tuple(seeds_of(seeds))
    make_folders(out, work)
    if data is None:
        tell_procedural()
    return Request(
        entries=chosen,
        seeds=numbers,
        settings=settings,
        data=data,
        out=out.resolve(),
        work=work.resolve(),
        resume=resume,
        threads=threads,
        timeout_seconds=60 * timeout,
    )


def _chosen(entries: str | None, test_set: bool, folder: Path | None) -> tuple[str, ...]:
    """The entries asked for, all of them known."""
    chosen = TEST_ENTRIES if test_set else tuple(chosen_entries(entries, folder))
    if not chosen:
        raise UsageError("--entries names no structure: write them as in --entries 1qvr,3pei")
    for entry in chosen:
        load_subject(entry, folder)
    return tuple(entry.strip().lower() for entry in chosen)


def tell_row(row: Row) -> None:
    """One line on a row as soon as it is there."""
    said = [str(row[name]) for name in ("method", "case", "verdict") if row.get(name) is not None]
    seconds = row.get("seconds", row.get("fit_seconds"))
    said.append("no result" if seconds is None else f"{seconds:.1f} s")
    if row.get("note"):
        said.append(str(row["note"]))
    console.print(f"{row['entry']}, seed {row['seed']}: {', '.join(said)}", markup=False)
