"""The particles before and after denoising, and the class averages with their members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarice.classify.select import IMPROBABLE, KEPT
from clarice.report.folder import RunFiles, column, number, numbers, records
from clarice.report.pictures import contrast, grey_png

PAIRS = 8
MAX_CLASSES_SHOWN = 120


@dataclass(frozen=True)
class Pair:
    """One particle, `row` counted from 1; `denoised` is None before that stage has run."""

    row: int
    raw: str
    denoised: str | None


@dataclass(frozen=True)
class ClassAverage:
    """One class average; `number` counted from 1, `selected` None when nothing was selected yet, and the `reason` why
    it is left out.
    """

    number: int
    size: int | None
    share: float | None
    selected: bool | None
    reason: str | None
    picture: str


@dataclass(frozen=True)
class Fate:
    """What became of one class, `number` counted from 1: its `members`, their `share` of all, those `kept`, and why."""

    number: int
    members: int
    share: float
    kept: int
    reason: str


@dataclass(frozen=True)
class Classes:
    """Class averages, largest first, and how many there are in all."""

    averages: tuple[ClassAverage, ...]
    total: int
    members: int


def particle_pairs(run: RunFiles) -> tuple[Pair, ...]:
    """Particles from evenly spaced rows, raw (as prepared) beside denoised, each on its own grey scale."""
    total = run.stack_length("prepared.mrcs")
    if total == 0:
        return ()
    rows = sorted({int(row) for row in np.linspace(0, total - 1, min(PAIRS, total)).round()})
    raw = run.images("prepared.mrcs", rows)
    if raw is None:
        return ()
    denoised = run.images("denoised.mrcs", rows) if run.stack_length("denoised.mrcs") == total else None
    sign = protein_sign(run)
    return tuple(
        Pair(
            row + 1,
            grey_png(raw[place], *contrast(raw[place])),
            None if denoised is None else bright(denoised[place], sign),
        )
        for place, row in enumerate(rows)
    )


def protein_sign(run: RunFiles) -> float:
    """−1 where protein is dark in the stack, and so in its denoised images and class averages."""
    return number(run.json("prepared.json").get("sign")) or 1.0


def bright(image: NDArray[np.float32], sign: float) -> str:
    """The picture of an image in the stack's sign, protein bright as in the prepared ones and the map."""
    return grey_png(sign * image, *contrast(sign * image, 4.0))


def class_averages(run: RunFiles) -> Classes | None:
    """The class averages with sizes; None before classification."""
    total = run.stack_length("classes.mrcs")
    images = run.images("classes.mrcs", range(total)) if total else None
    if images is None:
        return None
    sizes = _class_sizes(run, total)
    members = 0 if sizes is None else int(sizes.sum())
    selected, reasons = _selected_classes(run, total), _reasons(run)
    sign = protein_sign(run)
    order = np.arange(total) if sizes is None else np.argsort(-sizes, kind="stable")
    averages = tuple(
        ClassAverage(
            int(index) + 1,
            None if sizes is None else int(sizes[index]),
            None if sizes is None or not members else float(sizes[index]) / members,
            None if selected is None else int(index) + 1 in selected,
            reasons.get(int(index) + 1),
            bright(images[index], sign),
        )
        for index in order[:MAX_CLASSES_SHOWN]
    )
    return Classes(averages, total, members)


def _class_sizes(run: RunFiles, total: int) -> np.ndarray | None:
    """Particles in each class, from the members' table."""
    classes = column(run.table("class_members.star", "rlnClassNumber"), "rlnClassNumber")
    if classes is None or classes.min() < 1 or classes.max() > total:
        return None
    return np.bincount(classes.astype(np.int64) - 1, minlength=total)


def class_fates(run: RunFiles) -> tuple[Fate, ...]:
    """What became of every class that has members, largest first; none before selection."""
    counted = [
        (int(size), int(kept), fate)
        for fate in records(run.json("selection.json").get("classes"))
        if (size := number(fate.get("members"))) and (kept := number(fate.get("kept"))) is not None
        if number(fate.get("number")) and size >= kept
    ]
    total = sum(size for size, _, _ in counted)
    fates = [
        Fate(int(fate["number"]), size, size / total, kept, _why(size, kept, fate)) for size, kept, fate in counted
    ]
    return tuple(sorted(fates, key=lambda fate: -fate.members))


def _why(size: int, kept: int, fate: dict[str, Any]) -> str:
    """In words; a kept class may lose particles that are improbable in it."""
    reason = str(fate.get("reason") or "")
    if reason != KEPT or kept == size:
        return reason
    return IMPROBABLE if kept == 0 else f"{KEPT}, but for those {IMPROBABLE}"


def _reasons(run: RunFiles) -> dict[int, str]:
    """Why each class that keeps no particle is left out, by number, where that was recorded."""
    rows = records(run.json("selection.json").get("classes"))
    lost = [fate for fate in rows if fate.get("number") and fate.get("reason") and not fate.get("kept")]
    return {int(fate["number"]): IMPROBABLE if fate["reason"] == KEPT else str(fate["reason"]) for fate in lost}


def _selected_classes(run: RunFiles, total: int) -> frozenset[int] | None:
    """Numbers of the classes kept: as recorded, else those with most of their members in selected.star."""
    for source in ("selection.json", "classes.json"):
        listed = numbers(run.json(source).get("selected_classes"))
        if len(listed):
            return frozenset(int(kept_class) for kept_class in listed)
    members = run.table("class_members.star", "rlnClassNumber")
    kept = run.table("selected.star", "rlnImageName")
    if members is None or kept is None or "rlnImageName" not in members.columns:
        return None
    inside = members["rlnImageName"].isin(set(kept["rlnImageName"])).to_numpy()
    classes = column(members, "rlnClassNumber")
    if classes is None:
        return None
    return frozenset(k for k in range(1, total + 1) if (classes == k).any() and inside[classes == k].mean() >= 0.5)
