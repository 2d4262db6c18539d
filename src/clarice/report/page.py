"""`report.html`: one page that carries everything it shows, made from the run folder alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from clarice import __version__
from clarice.io.atomic import writing
from clarice.report import provenance
from clarice.report.advice import advice
from clarice.report.convergence import PoseSummary, convergence, pose_summary
from clarice.report.expected_error import expected_error
from clarice.report.folder import RunFiles, Volume, number
from clarice.report.local_resolution import local_resolution
from clarice.report.map_controls import map_controls
from clarice.report.next_steps import next_steps
from clarice.report.null_controls import null_controls
from clarice.report.optics import optics_summary
from clarice.report.particles import class_averages, class_fates, particle_pairs
from clarice.report.resolution import Resolution, resolution
from clarice.report.sources import made_from
from clarice.report.surface import Surface, central_slices, projections, surface
from clarice.report.verdict import Findings, findings_warnings, particle_counts, verdict
from clarice.report.wording import angstrom, count, date, percent, plain, quantity, reached

SECTIONS = (
    ("particles", "Particles"),
    ("classes", "Class averages"),
    ("nulls", "Controls"),
    ("map", "Map"),
    ("fsc", "Resolution"),
    ("orientations", "Orientations and shifts"),
    ("optics", "CTF"),
    ("advice", "Advice"),
    ("progress", "Search and refinement"),
    ("stages", "Time and memory"),
    ("provenance", "Provenance"),
    ("next", "How to go on"),
)


def write_report(run_folder: Path) -> Path:
    """Writes `report.html` into `run_folder` and returns its path.

    Where a file is missing its section says so; a file that cannot be read becomes a warning on the page.
    Raises InputError when `run_folder` is no run folder, OutputError when the page cannot be written.
    """
    run = RunFiles(Path(run_folder))
    page = render(run)
    target = run.path / "report.html"
    with writing(target) as temporary:
        # Names from files may hold bytes that are no UTF-8; they show as question marks.
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return target


def render(run: RunFiles) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(_content(run))


def _content(run: RunFiles) -> dict[str, Any]:
    record, prepared, selection = run.json("run.json"), run.json("prepared.json"), run.json("selection.json")
    volume = run.volume("map.mrc")
    drawn = None if volume is None else surface(volume)
    result, poses, stages = resolution(run), pose_summary(run), provenance.stages(record)
    optics, search = optics_summary(run), convergence(run)
    total, kept = particle_counts(run, record)
    method = run.json("denoised.json").get("method")
    laid = run.json("abinitio.json").get("method") in ("common-lines", "moments", "learned")
    found = Findings(result, poses, stages, total, kept)
    has_mirror = run.has("map_mirror.mrc")
    diameter = None if drawn is None else drawn.diameter_angstrom
    content: dict[str, Any] = {
        "name": _stack_name(run, record),
        "headline": _headline(record, total),
        "verdict": verdict(found, volume is not None, has_mirror, None if method is None else str(method), laid),
        "tiles": _tiles(result, poses, stages, total, kept),
        "sections": SECTIONS,
        **_particles(run),
        "local": local_resolution(run),
        "controls": null_controls(run),
        "map_controls": map_controls(run),
        "method": method,
        "box": plain(prepared.get("working_box")),
        "pixel": quantity(number(prepared.get("working_pixel_size_angstrom")), "Å", 4),
        "kept_words": f"{count(kept)} of {count(total)} particles were kept." if kept is not None and total else "",
        "reasons": _reasons(selection.get("reasons")),
        "surface": drawn,
        "flat_map": volume is not None and drawn is None,
        "diameter": quantity(diameter, "Å", 3),
        "planes": ()
        if volume is None
        else (("Central slices", central_slices(volume)), ("Projections", projections(volume))),
        "has_mirror": has_mirror,
        "map_facts": () if volume is None or drawn is None else _map_facts(volume, drawn),
        "fsc": result,
        "nyquist": angstrom(None if result is None else result.nyquist_angstrom),
        "poses": poses,
        "optics": optics,
        "advice": advice(run),
        "search": search,
        "stages": stages,
        "command": provenance.command_line(record) if record.get("command") else "",
        "facts": provenance.facts(record) if record else (),
        "details": _details(run, record, stages),
        "next": next_steps(run, record, diameter),
        "version": __version__,
        "style": Markup(_resource("page.css")),
        "surface_settings": "" if drawn is None else _script_json(drawn.settings),
        "surface_script": Markup(_resource("surface.js")),
        "page_script": Markup(_resource("page.js")),
    }
    # Last, for it names every file that the parts above found unreadable.
    content["warnings"] = findings_warnings(run, record, found)
    return content


def _particles(run: RunFiles) -> dict[str, Any]:
    """What the sections on particles and on their classes show."""
    pairs = particle_pairs(run)
    return {
        "pairs": pairs,
        "made": made_from(run, pairs),
        "errors": expected_error(run),
        "classes": class_averages(run),
        "fates": class_fates(run),
    }


def _resource(name: str) -> str:
    return resources.files("clarice.report").joinpath(name).read_text(encoding="utf-8")


def _script_json(value: dict[str, Any]) -> Markup:
    """JSON that cannot close the script element it stands in."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def _stack_name(run: RunFiles, record: dict[str, Any]) -> str:
    source = record.get("input")
    path = source.get("path") if isinstance(source, dict) else None
    return PurePath(str(path)).name if path else run.path.resolve().name


def _headline(record: dict[str, Any], total: int | None) -> tuple[str, ...]:
    source = record.get("input") if isinstance(record.get("input"), dict) else {}
    assert isinstance(source, dict)
    made = record.get("created") or datetime.now(UTC).isoformat(timespec="minutes")
    return (
        f"{count(total)} {'particle' if total == 1 else 'particles'}",
        f"box {count(number(source.get('box')))} px",
        f"{quantity(number(source.get('pixel_size_angstrom')), 'Å', 4)} per pixel",
        date(made),
        f"Clarice {plain(record.get('version'))}",
    )


def _tiles(
    result: Resolution | None,
    poses: PoseSummary | None,
    stages: provenance.Stages | None,
    total: int | None,
    kept: int | None,
) -> tuple[tuple[str, str, str], ...]:
    """The figures a reader looks for first, as (label, value, note)."""
    at_0143 = None if result is None else result.at_0143_angstrom
    at_05 = None if result is None else result.at_05_angstrom
    nyquist = None if result is None else result.nyquist_angstrom
    finest = None if result is None else result.finest_angstrom
    spread = None if poses is None else poses.coverage
    return (
        ("Resolution", _at_most(at_0143, nyquist, finest), f"FSC 0.143, Nyquist {angstrom(nyquist)}"),
        ("At FSC 0.5", _at_most(at_05, nyquist, finest), "between half maps"),
        (
            "Particles kept",
            count(kept),
            percent(kept, total) + " of the stack" if kept is not None and total else "",
        ),
        ("Views covered", "–" if spread is None else percent(spread.seen_share, 1.0), "of all directions"),
        ("Time", "–" if stages is None else stages.total_time, "all stages"),
        ("Peak memory", "–" if stages is None else stages.peak_memory, ""),
    )


def _at_most(value: float | None, nyquist: float | None, finest: float | None) -> str:
    """A resolution in the room of a tile: with ≤ where the curve never fell below its threshold."""
    limit = max((each for each in (nyquist, finest) if each is not None), default=None)
    return angstrom(value) if reached(value, nyquist, finest) == angstrom(value) else f"≤ {angstrom(limit)}"


def _reasons(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict):
        return tuple((str(name).replace("_", " "), plain(item)) for name, item in value.items())
    if isinstance(value, list):
        return tuple((str(index + 1), plain(item)) for index, item in enumerate(value[:40]))
    return () if value is None else (("reason", plain(value)),)


def _map_facts(volume: Volume, drawn: Surface) -> tuple[tuple[str, str], ...]:
    box = volume.values.shape[0]
    return (
        ("Box", f"{box} px, {quantity(box * volume.pixel_size_angstrom, 'Å', 4)}"),
        ("Pixel size", quantity(volume.pixel_size_angstrom, "Å", 4)),
        ("Nyquist", angstrom(2 * volume.pixel_size_angstrom)),
        ("First threshold", f"{drawn.level:.3g} ({drawn.level_sigma:.1f} σ)"),
        ("Largest extent", quantity(drawn.diameter_angstrom, "Å", 3)),
    )


def _details(
    run: RunFiles, record: dict[str, Any], stages: provenance.Stages | None
) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    hashes = () if stages is None else tuple((row.name, f"{row.inputs_hash} → {row.outputs}") for row in stages.rows)
    return (
        ("Arguments", provenance.arguments(record)),
        ("Input check", provenance.facts_of(run.json("check.json"))),
        ("Preparation", provenance.facts_of(run.json("prepared.json"))),
        ("Hash of the inputs and files written, by stage", hashes),
    )
