"""The protocol `peers`: our steps beside those of ASPIRE and RELION on the same stacks, threads and machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

from clarice.benchmark import peer_relion as relion
from clarice.benchmark.contest import (
    CLASSIFY,
    FIRST_MAP,
    RELION_CLASSES,
    RELION_MODEL,
    TASKS,
    WHOLE_RUN,
    Contest,
    PeerRequest,
)
from clarice.benchmark.main_job import Request
from clarice.benchmark.peer_aspire import DenoisingRow, compare_covariance_wiener
from clarice.benchmark.protocol import make_stack
from clarice.benchmark.records import Column, Results, Row, load_average, with_interval
from clarice.benchmark.row_by_row import Task, measure_rows
from clarice.benchmark.structures import defocus_table, load_subject, structures_folder
from clarice.core.errors import ResourceError
from clarice.core.progress import Progress, silent

NAME = "peers"
VERSION = 2
OUR_FILTER, ASPIRE_FILTER = "clarice covariance-wiener", "ASPIRE covariance Wiener"
FILTERS = {"covariance-wiener": OUR_FILTER, "aspire": ASPIRE_FILTER}
# Each peer beside what of ours it is measured against, and the figure that says how good they are: less is better.
PAIRS = (
    ("denoise", ASPIRE_FILTER, OUR_FILTER, "nrmse"),
    ("denoise, centred", ASPIRE_FILTER, OUR_FILTER, "nrmse"),
    ("classes", RELION_CLASSES, CLASSIFY, "view_spread_deg"),
    ("map", RELION_MODEL, FIRST_MAP, "fsc_05_angstrom"),
    ("map", RELION_MODEL, WHOLE_RUN, "fsc_05_angstrom"),
)
_KEYS = ("comparison", "entry", "seed", "method")
COLUMNS = (
    Column("comparison", "comparison"),
    Column("entry", "entry"),
    Column("seed", "seed"),
    Column("method", "method"),
    Column("time, s", "seconds", "{:.1f}"),
    Column("CPU, s", "cpu_seconds", "{:.1f}"),
    Column("MB", "peak_memory_mb", "{:.0f}"),
    Column("NRMSE", "nrmse", "{:.3f}"),
    Column("spread of views, °", "view_spread_deg", "{:.1f}"),
    Column("purity", "purity", "{:.2f}"),
    Column("classes", "classes"),
    Column("FSC 0.5, Å", "fsc_05_angstrom", "{:.1f}"),
    Column("FSC 0.143, Å", "fsc_0143_angstrom", "{:.1f}"),
    Column("orientation, °", "orientation_median_deg", "{:.1f}"),
    Column("note", "note"),
)


def peers(request: PeerRequest, *, shown: Callable[[Row], None], progress: Progress = silent) -> Results:
    """Runs the protocol, `shown` and saved row by row; finished rows of a resumed call are kept."""
    base = request.base
    results = base.results(NAME, VERSION, _KEYS, COLUMNS, quick=request.quick)
    if request.quick:
        results.notes.append("quick: RELION ran a tenth of its iterations, so its ratios measure nothing")
    tasks = (task for entry, seed in base.stacks() for task in tasks_of(entry, seed, request, progress))
    return measure_rows(results, tasks, base.out, summarise=summarise, shown=shown)


def tasks_of(entry: str, seed: int, request: PeerRequest, progress: Progress) -> Iterator[Task]:
    """What is to be measured on one stack, in order."""
    stack: Row = {"entry": entry, "seed": seed}
    if "denoise" in request.comparisons:
        yield from _filter_tasks(stack, request.base, progress)
    contest = cache(lambda: _contest(entry, seed, request, progress))  # made when the first row needs it
    for comparison in request.comparisons:
        for method, measure, needs_relion in TASKS.get(comparison, ()):
            key: Row = {"comparison": comparison, **stack, "method": method}
            yield Task((key,), partial(_contested, measure, needs_relion, contest))


def _contest(entry: str, seed: int, request: PeerRequest, progress: Progress) -> Contest:
    base = request.base
    subject = load_subject(entry, structures_folder(base.data))
    place = base.work / NAME / f"{entry}_seed{seed}"
    stack = make_stack(subject, seed, base.settings, place / "data", base.data, progress)
    return Contest(stack, place, request)


def _contested(measure: Callable[[Contest], Row], needs_relion: bool, contest: Callable[[], Contest]) -> list[Row]:
    """The row of one method; raises ResourceError where it needs RELION and that is missing."""
    absent = relion.missing() if needs_relion else None
    if absent is not None:
        raise ResourceError(absent)
    made = contest()
    return [{"load_before": load_average(), **measure(made)}]


def _filter_tasks(stack: Row, base: Request, progress: Progress) -> Iterator[Task]:
    """Both covariance Wiener filters, on the protocol's stack and on the same one without shifts."""
    for comparison, shift in (("denoise", base.settings.max_shift_px), ("denoise, centred", 0.0)):
        keys = tuple({"comparison": comparison, **stack, "method": name} for name in FILTERS.values())
        yield Task(keys, partial(_filtered, stack, shift, base, progress))


def _filtered(stack: Row, shift: float, base: Request, progress: Progress) -> list[Row]:
    """The rows of both filters, in the order of FILTERS."""
    settings = base.settings
    found = compare_covariance_wiener(
        load_subject(stack["entry"], structures_folder(base.data)).atoms,
        max_shift_px=shift,
        particles=settings.particles,
        box=settings.box,
        snr=settings.snr,
        seed=stack["seed"],
        ctf_table=defocus_table(base.data),
        threads=base.threads,
        progress=progress,
    )
    rows = {row.method: _denoised(row) for row in found}
    return [rows[method] for method in FILTERS]


def _denoised(row: DenoisingRow) -> Row:
    return {"nrmse": row.nrmse, "seconds": row.seconds, "note": row.note or None, "failed": row.seconds is None}


def summarise(results: Results) -> None:
    """Ratios of each peer to ours, time and error, with 95 % intervals by bootstrap over structures."""
    texts: dict[str, str] = {}
    for comparison, peer, ours, figure in PAIRS:
        ratios = ratios_of(results, comparison, peer, ours, figure)
        time, error = (with_interval(ratios, key, "{:.2f}", "×") for key in ("time_ratio", "error_ratio"))
        bound = "at least " if any(ratio["lower_bound"] for ratio in ratios) else ""
        left_out = sum(
            bool(row.get("failed")) for row in results.rows if (row["comparison"], row["method"]) == (comparison, peer)
        )
        if left_out:
            texts[f"{comparison}: {peer}"] = f"{left_out} without result, see the notes: left out of the ratios"
        if time is not None:
            texts[f"{comparison}: {peer} / {ours}, time"] = bound + time
        if error is not None:
            texts[f"{comparison}: {peer} / {ours}, {figure} (above 1: ours is better)"] = error
    results.summary = texts


def ratios_of(results: Results, comparison: str, peer: str, ours: str, figure: str) -> list[Row]:
    """For each stack both came to an end on: the peer's time and error over ours."""
    ratios: list[Row] = []
    rows = {results.key_of(row): row for row in results.rows if not row.get("failed")}
    for row in rows.values():
        if (row["comparison"], row["method"]) != (comparison, peer):
            continue
        other = rows.get((comparison, row["entry"], row["seed"], ours))
        if other is not None and other.get("seconds") and other.get(figure):
            time, error = row["seconds"] / other["seconds"], row[figure] / other[figure]
            bound = bool(row.get("lower_bound"))
            ratios.append({"entry": row["entry"], "time_ratio": time, "error_ratio": error, "lower_bound": bound})
    return ratios
