"""How the search went: the random starts, the resolution by iteration, and how sure the poses are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clarice.metrics.view_coverage import Coverage, coverage, view_directions, with_copies
from clarice.report.charts import Axis, Chart, Series, histogram, line_chart
from clarice.report.folder import RunFiles, column, number, numbers, records
from clarice.report.provenance import symmetry_of
from clarice.report.sphere import orientation_map
from clarice.report.wording import angstrom, hundredths, plain


@dataclass(frozen=True)
class Start:
    """One random start; `behind` is how far its log-likelihood lies below the best."""

    index: int
    seed: str
    log_likelihood: str
    behind: str
    chosen: bool


@dataclass(frozen=True)
class FirstMap:
    """A way to a first map that was tried; `log_likelihood` a particle is under it, all looked at equally far."""

    method: str
    log_likelihood: str
    found: str
    chosen: bool


@dataclass(frozen=True)
class Convergence:
    """First maps that were tried, starts of projection matching, and charts of their course and the refinement's."""

    first_maps: tuple[FirstMap, ...]
    starts: tuple[Start, ...]
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class PoseSummary:
    """Charts of the particles' poses, and how evenly their views are spread."""

    particles: int
    views: Chart | None
    coverage: Coverage | None
    charts: tuple[Chart, ...]


def convergence(run: RunFiles) -> Convergence | None:
    """Read from abinitio.json and refinement.json; None when neither has anything to show."""
    tried = _tried(run.json("abinitio.json"))
    first_maps = tuple(_first_map(content, index == 0) for index, content in enumerate(tried) if "method" in content)
    matched = next((content for content in tried if "starts" in content), {})
    starts, courses = _starts(records(matched.get("starts")), matched.get("chosen"))
    charts = []
    if courses:
        longest = np.concatenate([course.y for course in courses])
        charts.append(
            line_chart(
                "Log-likelihood of the starts",
                "Starts that end together found the same structure.",
                courses,
                Axis.spanning("iteration", np.concatenate([course.x for course in courses])),
                Axis.spanning("log-likelihood", longest),
            )
        )
    progress = _refinement_chart(records(run.json("refinement.json").get("iterations")))
    if progress is not None:
        charts.append(progress)
    return Convergence(first_maps, starts, tuple(charts)) if first_maps or starts or charts else None


def _tried(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What is on record of each first map, the chosen one first."""
    return [content, *records([content.get("other")])]


def _first_map(content: dict[str, Any], chosen: bool) -> FirstMap:
    if "starts" in content:
        start = number(content.get("chosen"))
        words = "" if start is None else f"start {start + 1:.0f} of {len(records(content['starts']))}"
    elif "particles_in_moments" in content:
        words = f"fitted to moments of {plain(content['particles_in_moments'])} particles"
    else:
        share = number(content.get("agreeing_lines"))
        agree = "" if share is None else f"; {share:.0%} of their lines agree"
        laid = len(numbers(content.get("laid_by_lines")))
        words = f"{laid} particles denoised by {plain(content.get('denoiser'))}{agree}"
    return FirstMap(plain(content["method"]), hundredths(number(content.get("log_likelihood_compared"))), words, chosen)


def _starts(listed: list[dict[str, Any]], chosen: Any) -> tuple[tuple[Start, ...], list[Series]]:
    finals: list[float | None] = []
    courses = []
    for index, start in enumerate(listed):
        value = start.get("log_likelihood")
        course = numbers(value)
        finals.append(number(course[-1].item()) if len(course) else number(value))
        if len(course) > 1:
            role = "role-a" if index == chosen else f"role-{'bcd'[index % 3]}"
            courses.append(Series(f"start {index + 1}", np.arange(1, len(course) + 1.0), course, role))
    known = [value for value in finals if value is not None]
    best = max(known) if known else None
    starts = tuple(
        Start(
            index + 1,
            plain(start.get("seed")),
            hundredths(final),
            hundredths(None if best is None or final is None else best - final),
            index == chosen,
        )
        for index, (start, final) in enumerate(zip(listed, finals, strict=True))
    )
    return starts, courses


def _refinement_chart(iterations: list[dict[str, Any]]) -> Chart | None:
    known = [(i + 1.0, number(item.get("resolution_angstrom"))) for i, item in enumerate(iterations)]
    reached = [(i, value) for i, value in known if value is not None]
    if not reached:
        return None
    x, y = np.array([i for i, _ in reached]), np.array([value for _, value in reached])
    caption = (
        f"From {angstrom(y[0])} to {angstrom(y[-1])} in {len(iterations)} iterations (half maps "
        "without their spherical means, FSC 0.143)."
    )
    series = Series("resolution", x, y, "role-a", points=len(x) <= 40)
    x_axis = Axis.spanning("iteration", np.append(x, x[0] - 1 if len(x) == 1 else x[0]))
    return line_chart("Refinement", caption, [series], x_axis, Axis.spanning("resolution (Å)", y, from_zero=True))


def pose_summary(run: RunFiles) -> PoseSummary | None:
    """Of the particles that the map is made of, from particles.star; None before poses are known."""
    table = run.table("particles.star", "rlnAngleRot")
    kept = np.asarray(numbers(run.json("selection.json").get("rows")))
    if table is not None and len(kept) and np.isfinite(kept).all() and kept.min() >= 0 and kept.max() < len(table):
        table = table.iloc[kept.astype(np.int64)]  # the others have poses as well, but went into no map
    rot, tilt = column(table, "rlnAngleRot"), column(table, "rlnAngleTilt")
    if rot is None or tilt is None:
        return None
    directions = with_copies(view_directions(rot, tilt), symmetry_of(run.json("run.json")))
    charts = []
    shift_x, shift_y = column(table, "rlnOriginXAngst"), column(table, "rlnOriginYAngst")
    if shift_x is not None and shift_y is not None:
        length = np.hypot(shift_x, shift_y)
        words = f"Distance from the box centre; median {np.median(length):.1f} Å, largest {length.max():.1f} Å."
        charts.append(histogram("Shifts", words, length, "shift (Å)"))
    confidence = _confidence(run)
    if confidence is not None:
        words = f"Largest posterior probability of a pose, by particle; median {np.median(confidence):.2f}."
        charts.append(histogram("Pose confidence", words, confidence, "pose probability"))
    return PoseSummary(len(rot), orientation_map(directions), coverage(directions), tuple(charts))


def _confidence(run: RunFiles) -> np.ndarray | None:
    listed = numbers(run.json("refinement.json").get("pose_confidence"))
    if len(listed):
        return listed[np.isfinite(listed)]
    table = run.table("particles.star", "rlnMaxValueProbDistribution")
    return column(table, "rlnMaxValueProbDistribution")
