"""The run in one paragraph, and what a careful reader must know before believing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clarice.metrics.view_coverage import THIN_SAMPLING
from clarice.report.convergence import PoseSummary
from clarice.report.folder import RunFiles, number, records
from clarice.report.provenance import Stages
from clarice.report.resolution import Resolution
from clarice.report.wording import angstrom, count, percent, reached

FEW_PARTICLES = 500


@dataclass(frozen=True)
class Warning:
    """One warning and the stage or file it comes from."""

    source: str
    message: str


@dataclass(frozen=True)
class Findings:
    """What the other parts of the page found out."""

    resolution: Resolution | None
    poses: PoseSummary | None
    stages: Stages | None
    total_particles: int | None
    kept_particles: int | None


def findings_warnings(run: RunFiles, record: dict[str, Any], found: Findings) -> tuple[Warning, ...]:
    """Warnings of the run's stages first, then of unreadable files, then those the results give."""
    listed = [
        Warning(str(item.get("stage", "run")), str(item.get("message", ""))) for item in records(record.get("warnings"))
    ]
    listed += [Warning(name, sentence) for name, sentence in run.problems]
    if found.stages is not None and found.stages.unfinished:
        names = ", ".join(found.stages.unfinished)
        listed.append(Warning("run", f"Not finished: {names}. Start the same command again to go on from there."))
    if found.stages is not None and found.stages.outdated:
        names = ", ".join(found.stages.outdated)
        message = (
            f"Out of date: {names}. What they made is of an earlier call with other settings or particles; "
            "run on to the end to bring it up to date."
        )
        listed.append(Warning("run", message))
    if found.stages is not None:
        listed += [Warning(name, f"This stage failed: {error}") for name, error in found.stages.failed]
    if not record:
        listed.append(
            Warning("run.json", "It cannot be read or is empty, so command, seed, times and warnings are not known.")
        )
    result = found.resolution
    if result is not None and result.reaches_nyquist:
        prepared = run.json("prepared.json")
        whole = prepared.get("working_box") is not None and prepared.get("working_box") == prepared.get("input_box")
        limit, remedy = (
            ("pixels of the stack", "Particles extracted with smaller pixels may show more.")
            if whole
            else ("pixels of the working box", "A larger --working-box may show more.")
        )
        message = f"The half maps agree up to the last shell: the {limit}, not the data, set this limit. {remedy}"
        listed.append(Warning("resolution", message))
    spread = None if found.poses is None else found.poses.coverage
    if spread is not None and spread.least_sampled < THIN_SAMPLING:
        message = (
            "Views are uneven: the least-sampled direction of Fourier space has "
            f"{spread.least_sampled:.2f} times the mean. Expect the map to be drawn out along it, and the "
            "stated resolution not to hold in every direction."
        )
        listed.append(Warning("orientations", message))
    if found.kept_particles is not None and found.kept_particles < FEW_PARTICLES and result is not None:
        kept = count(found.kept_particles)
        message = f"Only {kept} particles went into the map; FSC curves from so few vary much by chance."
        listed.append(Warning("particles", message))
    return tuple(listed)


def verdict(
    found: Findings, has_map: bool, has_mirror: bool, method: str | None, first_map_of_denoised: bool = False
) -> str:
    """A paragraph in plain words, with resolution, threshold and Nyquist named."""
    sentences = []
    if found.total_particles:
        kept = found.kept_particles
        part = "" if kept is None else f", of which {count(kept)} ({percent(kept, found.total_particles)}) were kept"
        sentences.append(f"The stack holds {count(found.total_particles)} particles{part}.")
    if method:
        purpose = "to look at and for the first map" if first_map_of_denoised else "to look at"
        sentences.append(
            f"They were denoised by the method “{method}” {purpose}; classes and the refined map are made of the raw "
            "images."
        )
    result = found.resolution
    if result is not None and result.at_0143_angstrom is not None:
        sentences.append(
            "The two half maps, refined apart from each other, agree to "
            f"{reached(result.at_0143_angstrom, result.nyquist_angstrom, result.finest_angstrom)} at the FSC "
            "threshold 0.143 "
            f"(Nyquist: {angstrom(result.nyquist_angstrom)})."
        )
        if result.at_05_angstrom is not None:
            stricter = reached(result.at_05_angstrom, result.nyquist_angstrom, result.finest_angstrom)
            sentences.append(f"At the stricter threshold 0.5 it is {stricter}.")
        sentences.append(
            "This says how well the halves agree, not whether the shape is right: judge it by the slices, "
            "the class averages and the spread of views below."
        )
    elif has_map:
        sentences.append("There is a map, but no half-map comparison yet, so no resolution can be stated.")
    else:
        sentences.append("There is no map yet.")
    if has_map:
        mirror = "map_mirror.mrc" if has_mirror else "its mirror image"
        sentences.append(f"The hand of an ab initio map is not known: {mirror} fits the images equally well.")
    return " ".join(sentences)


def particle_counts(run: RunFiles, record: dict[str, Any]) -> tuple[int | None, int | None]:
    """Particles in the stack and particles kept, where known."""
    source = record.get("input")
    total = number(source.get("particles")) if isinstance(source, dict) else None
    selection = run.json("selection.json")
    kept = number(selection.get("kept"))
    total = total if total is not None else number(selection.get("total"))
    if total is None:
        total = float(run.stack_length("prepared.mrcs")) or None
    return None if total is None else int(total), None if kept is None else int(kept)
