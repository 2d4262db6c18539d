"""The protocol `peers`: our steps beside those of ASPIRE and RELION on the same stacks, threads and machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

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
from clarice.benchmark.peer_aspire import DenoisingRow, compare_covariance_wiener
from clarice.benchmark.protocol import make_stack
from clarice.benchmark.records import Column, Results, Row, load_average, with_interval
from clarice.benchmark.structures import defocus_table, load_subject, structures_folder
from clarice.core.errors import ClariceError
from clarice.core.progress import Progress, silent

NAME = "peers"
OUR_FILTER, ASPIRE_FILTER = "clarice covariance-wiener", "ASPIRE covariance Wiener"
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
    results = base.results(NAME, _KEYS, COLUMNS, quick=request.quick)
    if request.quick:
        results.notes.append("quick: RELION ran a tenth of its iterations, so its ratios measure nothing")
    for entry in base.entries:
        for seed in base.seeds:
            for row in rows_of(entry, seed, request, results, progress):
                results.put(row)
                summarise(results)
                results.save(base.out)
                shown(row)
    summarise(results)
    return results


def rows_of(entry: str, seed: int, request: PeerRequest, results: Results, progress: Progress) -> Iterator[Row]:
    """The rows of one stack that are not there yet, one after another."""
    common = {"entry": entry, "seed": seed}
    if "denoise" in request.comparisons:
        yield from _denoising(common, request, results, progress)
    subject = load_subject(entry, structures_folder(request.base.data))
    place = request.base.work / NAME / f"{entry}_seed{seed}"
    contest: Contest | None = None
    for comparison in request.comparisons:
        for method, task, needs_relion in TASKS.get(comparison, ()):
            row: Row = {"comparison": comparison, **common, "method": method}
            if results.finished(**row):
                continue
            if needs_relion and relion.missing() is not None:
                yield {**row, "failed": True, "note": relion.missing()}
                continue
            if contest is None:
                data = request.base.data
                stack = make_stack(subject, seed, request.base.settings, place / "data", data, progress)
                contest = Contest(stack, place, request)
            yield {**row, "load_before": load_average(), **_attempt(task, contest)}


def _attempt(task: Callable[[Contest], Row], contest: Contest) -> Row:
    """The task's row, or one that says why there is none."""
    try:
        return task(contest)
    except ClariceError as error:
        return {"failed": True, "note": str(error)}


def _denoising(common: Row, request: PeerRequest, results: Results, progress: Progress) -> Iterator[Row]:
    """Rows of both covariance Wiener filters, on the protocol's stack and on the same one without shifts."""
    base = request.base
    for comparison, shift in (("denoise", base.settings.max_shift_px), ("denoise, centred", 0.0)):
        methods = {"covariance-wiener": OUR_FILTER, "aspire": ASPIRE_FILTER}
        if all(results.finished(comparison=comparison, **common, method=name) for name in methods.values()):
            continue
        settings = replace(base.settings, max_shift_px=shift)
        found = compare_covariance_wiener(
            load_subject(common["entry"], structures_folder(base.data)).atoms,
            max_shift_px=shift,
            particles=settings.particles,
            box=settings.box,
            snr=settings.snr,
            seed=common["seed"],
            ctf_table=defocus_table(base.data),
            threads=base.threads,
            progress=progress,
        )
        for row in found:
            if row.method in methods:
                yield {"comparison": comparison, **common, "method": methods[row.method], **_denoised(row)}


def _denoised(row: DenoisingRow) -> Row:
    figures: Row = {"nrmse": row.nrmse, "seconds": row.seconds, "load_before": load_average()}
    return {**figures, "note": row.note or None, "failed": row.seconds is None}


def summarise(results: Results) -> None:
    """Ratios of each peer to ours, time and error, with 95 % intervals by bootstrap over structures."""
    texts: dict[str, str] = {}
    for comparison, peer, ours, figure in PAIRS:
        ratios = ratios_of(results, comparison, peer, ours, figure)
        time, error = (with_interval(ratios, key, "{:.2f}", "×") for key in ("time_ratio", "error_ratio"))
        left_out = sum(
            bool(row.get("failed")) for row in results.rows if (row["comparison"], row["method"]) == (comparison, peer)
        )
        if left_out:
            texts[f"{comparison}: {peer}"] = f"{left_out} without result, see the notes: left out of the ratios"
        if time is not None:
            texts[f"{comparison}: {peer} / {ours}, time"] = time
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
            ratios.append({"entry": row["entry"], "time_ratio": time, "error_ratio": error})
    return ratios
