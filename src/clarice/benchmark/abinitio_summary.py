"""What the rows of the protocol `abinitio` say together: shares, resolutions, times, and RELION beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from clarice.benchmark.abinitio_methods import ASPIRE, RELION
from clarice.benchmark.records import Results, Row, bootstrap_interval, grouped, with_interval


def summarise(results: Results) -> None:
    """For each cell and method shares of right maps and resolutions, with 95 % intervals over structures.

    Structures that stand apart are counted in one share more. Where RELION made an initial model of the same stacks,
    each of our methods is told beside it, stack by stack.
    """
    results.summary = {}
    apart = sorted({row["entry"] for row in results.rows if row.get("apart")})
    if apart:
        results.summary["apart, their pixel being finer than the CTF allows in so small a box"] = ", ".join(apart)
    counted = [
        {**row, "first_found": float(bool(row.get("first_right"))), "found": float(bool(row.get("right")))}
        for row in results.rows
        if "not installed" not in str(row.get("note"))
    ]
    for ctf, snr in dict.fromkeys((row["ctf"], row["snr"]) for row in counted):
        cell = [row for row in counted if (row["ctf"], row["snr"]) == (ctf, snr)]
        for method in dict.fromkeys(row["method"] for row in cell):
            name = f"CTF and shifts {ctf}, SNR {snr:g}, {method}"
            rows = [row for row in cell if row["method"] == method]
            usual = [row for row in rows if not row.get("apart")]
            if usual:
                results.summary[name] = _summary(usual)
            if len(usual) < len(rows):
                ended = [row for row in rows if not row.get("lower_bound")]
                results.summary[f"{name}, those apart included"] = _share(ended, "found", "refined") if ended else "–"
            beside = beside_relion(cell, method)
            if beside is not None:
                results.summary[f"{name}, beside RELION's initial model"] = beside


def beside_relion(rows: Sequence[Row], method: str) -> str | None:
    """How much finer the refined maps of a method are than RELION's initial models, and in what share of their time.

    Of stacks of which there are both; None where there are none, or the method is a peer. A model that time ran out for
    is as it was then, and its time a lower bound.
    """
    if method in (RELION, ASPIRE):
        return None
    whole = [row for row in rows if row.get("fsc_05_px") is not None or row.get("first_05_px") is not None]
    models = {(row["entry"], row["seed"]): row for row in whole if row["method"] == RELION}
    pairs = []
    for row in whole:
        model = models.get((row["entry"], row["seed"]))
        if row["method"] == method and model is not None and row.get("fsc_05_px") is not None:
            finer, share = model["first_05_px"] - row["fsc_05_px"], row["seconds"] / model["first_seconds"]
            pairs.append({"entry": row["entry"], "finer_px": finer, "share": share})
    if not pairs:
        return None
    finer, share = with_interval(pairs, "finer_px", "{:.2f}", " px"), with_interval(pairs, "share", "{:.3f}")
    return f"finer by {finer}, in {share} of its time, over {len(pairs)} stacks"


def _summary(rows: Sequence[Row]) -> str:
    """Of first maps and of refined ones. Rows that time ran out for show no method at its end: they are left out."""
    ended = [row for row in rows if not row.get("lower_bound")]
    parts = [_share(ended, "first_found", "first map"), _share(ended, "found", "refined")] if ended else []
    for name, key, form, unit in (
        ("first map's FSC 0.5", "first_05_px", "{:.2f}", " px"),
        ("refined", "fsc_05_px", "{:.2f}", " px"),
        ("time of the first map", "first_seconds", "{:.0f}", " s"),
        ("with refinement", "seconds", "{:.0f}", " s"),
    ):
        value = with_interval([row for row in ended if not row.get("failed")], key, form, unit)
        parts += [] if value is None else [f"{name} {value}"]
    if len(ended) < len(rows):
        parts.append(f"{len(rows) - len(ended)} left out, their time having run out")
    return "; ".join(parts)


def _share(rows: Sequence[Row], key: str, name: str) -> str:
    found = grouped(rows, key)
    share = sum(map(sum, found.values())) / sum(map(len, found.values()))
    interval = bootstrap_interval(found, lambda drawn: float(drawn.mean()))
    within = "" if interval is None else f", 95 %: {interval[0]:.2f} to {interval[1]:.2f}"
    return f"{name} right {sum(row[key] for row in rows):.0f} of {len(rows)} ({share:.2f}{within})"
